//! The command line of `mortised`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum, value_parser};

use crate::host::Promise;

/// The lowest uid that workers may be given: those below belong to the system and its people.
const FIRST_UID_LEAST: i64 = 1001;

/// The highest: above it there must be room for a slot each.
const FIRST_UID_MOST: i64 = 4_000_000_000;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  stop every module in order and end; with --workers-unit, end and leave them running

Exit codes:
    0  ended as it was told to
    1  not started: the log says why
    2  the command line is wrong
  100  with --workers-unit: ended by `mortise shutdown`, nothing runs any more

`mortised hold` is for the unit of --workers-unit: it keeps that unit's group, and does nothing else.";

/// The supervisor of Mortise: runs modules as isolated workers, joins them by shared memory, and swaps them while they serve.
#[derive(Clone, Debug, Parser)]
#[command(name = "mortised", version, disable_help_subcommand = true, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// Folder of what outlives a restart of the host: desired state, packages, logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mortise")]
    pub state: PathBuf,
    /// Folder of sockets and of what workers see of the supervisor
    #[arg(long, value_name = "DIR", default_value = "/run/mortise")]
    pub run: PathBuf,
    /// Socket of the admin API [default: RUN/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub admin: Option<PathBuf>,
    /// Address on which the base takes HTTP requests; port 0 takes any that is free and keeps it. May be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<SocketAddr>,
    /// Package of the base, as a folder or as a file of `mortise pack`: installed, started and published at start
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Folder of `mortise-init` [default: the folder of this program]
    #[arg(long, value_name = "DIR")]
    pub libexec: Option<PathBuf>,
    /// Promises that need not be kept on this host, by name and separated by commas; `mortise doctor` lists them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allow_degraded: Vec<Promise>,
    /// The systemd unit in whose group workers live: delegated, and kept by `mortised hold`. SIGTERM then ends this program alone and leaves
    /// them running for its successor; `mortise shutdown` ends them too. Without it they live in this program's own group and end with it
    #[arg(long, value_name = "UNIT")]
    pub workers_unit: Option<String>,
    /// The uid of the first worker; each of the others has one of those above it
    #[arg(long, value_name = "FIRST", default_value_t = 200_000,
        value_parser = value_parser!(u32).range(FIRST_UID_LEAST..=FIRST_UID_MOST))]
    pub tenant_uids: u32,
    /// How this program's own log looks [default: journal if stderr goes there, as in a systemd unit, else text]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// How the log looks. How much of it there is says `MORTISE_LOG` (`info` without it; `debug`, or
/// `mortise_supervisor::engine=trace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, on stderr.
    Text,
    /// One JSON object a line, on stderr.
    Json,
    /// The systemd journal, with fields: `journalctl MODULE=spell`. Modules' lines go there too, instead of into files.
    Journal,
}

impl Arguments {
    /// Where the admin API listens.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.clone().unwrap_or_else(|| self.run.join("admin.sock"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("mortised").chain(words.iter().copied()))
    }

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
        let given = parse(&["--run", "/r", "--listen", "127.0.0.1:0", "--listen", "[::1]:80"]).unwrap();
        assert_eq!(given.listen.len(), 2);
        assert_eq!(given.admin_socket(), PathBuf::from("/r/admin.sock"));
    }

    #[test]
    fn promises_are_named_and_a_wrong_name_is_told_the_right_ones() {
        let given = parse(&["--allow-degraded", "seccomp,freeze"]).unwrap();
        assert_eq!(given.allow_degraded, [Promise::Seccomp, Promise::Freeze]);
        let refused = parse(&["--allow-degraded", "safety"]).unwrap_err().to_string();
        assert!(refused.contains("safety") && refused.contains("landlock"), "{refused}");
    }

    #[test]
    fn a_uid_of_the_system_is_not_for_workers() {
        for wrong in ["0", "1000", "4294967295"] {
            assert!(parse(&["--tenant-uids", wrong]).is_err(), "{wrong}");
        }
    }
}
