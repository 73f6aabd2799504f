//! How a typed call fails: with the module's own error, or without an answer.

use std::convert::Infallible;
use std::time::Duration;

pub use shm_rpc::CallError as Failure;
use shm_rpc::Started;

/// Why a typed call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E = Infallible> {
    /// The method ran and answered with its own error.
    Module(E),
    /// There is no answer of the method's. [`Failure::started`] says whether it may have run.
    Failed(Failure),
}

impl<E> CallError<E> {
    /// The method's own error, if that is it.
    #[must_use]
    pub const fn module(&self) -> Option<&E> {
        match self {
            Self::Module(error) => Some(error),
            Self::Failed(_) => None,
        }
    }

    /// Why there is no answer, if there is none.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Module(_) => None,
            Self::Failed(failure) => Some(failure),
        }
    }

    /// Whether the callee may have executed anything.
    #[must_use]
    pub const fn started(&self) -> Started {
        match self {
            Self::Module(_) => Started::Yes,
            Self::Failed(failure) => failure.started(),
        }
    }

    /// When it may be worth trying again; none if not by itself.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.failure()? {
            Failure::Overloaded { retry_after } => Some(*retry_after),
            Failure::NotStarted | Failure::Draining | Failure::Deadline { started: false } => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// The HTTP status that says the same: 503 (with [`Self::retry_after`]) for what never started and for overload, 502 for
    /// what may have been executed, 504 for a deadline, 413 too large, 422 for the method's own error.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::Module(_) => 422,
            Self::Failed(failure) => match failure {
                Failure::Invalid(_) => 400,
                Failure::Denied => 403,
                Failure::TooLarge { .. } => 413,
                Failure::Internal(_) => 500,
                Failure::MaybeExecuted | Failure::ProtocolViolation(_) | Failure::Cancelled { started: true } => 502,
                Failure::NoService
                | Failure::NotStarted
                | Failure::Draining
                | Failure::Overloaded { .. }
                | Failure::Cancelled { started: false } => 503,
                Failure::Deadline { .. } => 504,
            },
        }
    }
}

impl<E> From<Failure> for CallError<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E: std::fmt::Display> std::fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Module(error) => error.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Module(error) => error.source(),
            Self::Failed(failure) => failure.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_status_that_says_whether_it_can_be_repeated() {
        let status = |failure: Failure| CallError::<Infallible>::from(failure).http_status();
        assert_eq!(status(Failure::NotStarted), 503);
        assert_eq!(status(Failure::Overloaded { retry_after: Duration::ZERO }), 503);
        assert_eq!(status(Failure::MaybeExecuted), 502);
        assert_eq!(status(Failure::Deadline { started: true }), 504);
        assert_eq!(status(Failure::TooLarge { len: 2, limit: 1 }), 413);
        assert_eq!(CallError::Module("no").http_status(), 422);
    }
}
