//! How a command fails: what was found, whose fault, what to do, and with which exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::screen::{Paint, visible};
use crate::api::{ApiError, Blame, ErrorCode};

/// The exit code for a wrong command line, clap's own.
pub const WRONG_COMMAND_LINE: u8 = 2;

/// The exit code when no supervisor answers.
pub const UNREACHABLE: u8 = 3;

/// The exit code of an operation that was carried out and failed.
const OPERATION_FAILED: u8 = 1;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What there is to say.
    pub error: ApiError,
    exit: u8,
    torn: bool,
}

/// How a command ends early.
#[derive(Debug)]
pub enum End {
    /// It failed.
    Fault(Fault),
    /// Nobody reads what it prints any more, as in `mortise events -f | head`: no failure.
    NobodyReads,
}

/// What a command returns.
pub type Done<T = ()> = Result<T, End>;

impl Fault {
    /// Nothing answers on the socket.
    pub fn unreachable(socket: &Path, error: &dyn std::fmt::Display) -> Self {
        let message = format!("no supervisor answers on {}: {error}", socket.display());
        let remedy = "Start mortised, or name its socket with --socket or MORTISE_SOCKET.";
        Self {
            error: ApiError::new(ErrorCode::Unavailable, Blame::Operator, message).remedy(remedy),
            exit: UNREACHABLE,
            torn: false,
        }
    }

    /// The connection broke in the middle.
    pub fn torn(error: &dyn std::fmt::Display) -> Self {
        let message = format!("the supervisor's answer is torn: {error}");
        let remedy = "Ask again; `mortise operation` shows whether it was accepted.";
        Self {
            error: ApiError::new(ErrorCode::Unavailable, Blame::Host, message).remedy(remedy),
            exit: UNREACHABLE,
            torn: true,
        }
    }

    /// The command line is well-formed and makes no sense.
    pub fn command_line(message: impl Into<String>) -> Self {
        Self { error: ApiError::new(ErrorCode::Invalid, Blame::Caller, message), exit: WRONG_COMMAND_LINE, torn: false }
    }

    /// An operation ended in `error`.
    pub fn of_operation(error: ApiError) -> Self {
        Self { error, exit: OPERATION_FAILED, torn: false }
    }

    /// A file or folder of the caller's.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Invalid };
        ApiError::new(code, Blame::Caller, format!("{}: {error}", path.display())).into()
    }

    /// Whether nothing answers, or no longer.
    pub const fn is_unreachable(&self) -> bool {
        self.exit == UNREACHABLE
    }

    /// Whether the request may have been accepted all the same.
    pub const fn is_torn(&self) -> bool {
        self.torn
    }

    /// The exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        self.exit.into()
    }

    /// For people.
    pub fn show(&self, paint: Paint) -> String {
        let ApiError { blame, message, remedy, .. } = &self.error;
        let lines = |text: &str| text.lines().map(visible).collect::<Vec<_>>().join("\n");
        // A report of several errors names each by itself.
        let title = if message.starts_with("error:") { String::new() } else { paint.bad("error:") + " " };
        let mut shown = format!("{title}{}\n", lines(message));
        shown += &format!("{} {}\n", paint.dim("fault:"), whose(*blame));
        if let Some(remedy) = remedy {
            shown += &format!("{} {}\n", paint.good("remedy:"), lines(remedy));
        }
        shown
    }
}

const fn whose(blame: Blame) -> &'static str {
    match blame {
        Blame::Caller => "of this command",
        Blame::Module => "of the module",
        Blame::Operator => "of how this host is operated",
        Blame::Host => "of this host",
        Blame::Mortise => "of Mortise; please report it",
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        let exit = error.code.exit_code();
        Self { error, exit, torn: false }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Fault(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_whose_and_what_to_do() {
        let fault: Fault =
            ApiError::new(ErrorCode::NotFound, Blame::Caller, "no module spel").remedy("Say spell.").into();
        assert_eq!(fault.show(Paint::PLAIN), "error: no module spel\nfault: of this command\nremedy: Say spell.\n");
    }

    #[test]
    fn a_hostile_message_cannot_drive_the_terminal() {
        let fault: Fault = ApiError::new(ErrorCode::Failed, Blame::Module, "a\x1b[2Jb\nc\x07").into();
        let shown = fault.show(Paint::PLAIN);
        assert!(!shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
        assert_eq!(shown.lines().count(), 3, "lines are kept: {shown:?}");
    }
}
