//! [`CallError`] as an answer: a code, and a body where there is more to say.

use std::time::Duration;

use crate::view::View;
use crate::{CallError, Violation};

const INVALID: u16 = 1;
const TOO_LARGE: u16 = 2;
const NO_SERVICE: u16 = 3;
const DENIED: u16 = 4;
const NOT_STARTED: u16 = 5;
const DRAINING: u16 = 6;
const MAYBE_EXECUTED: u16 = 7;
const DEADLINE: u16 = 8;
const CANCELLED: u16 = 9;
const OVERLOADED: u16 = 10;
pub(crate) const INTERNAL: u16 = 11;
/// Added to the codes of `Deadline` and `Cancelled` if the call had started.
const STARTED: u16 = 0x100;

/// The longest text that is taken from a peer.
const MAX_TEXT: usize = 4096;

/// What is sent for an error.
pub(crate) enum Detail<'a> {
    None,
    Text(&'a str),
    Numbers([u64; 2]),
}

/// The code and the body of an error that a handler answers with.
pub(crate) fn encode(error: &CallError) -> (u16, Detail<'_>) {
    let started = |yes: bool| if yes { STARTED } else { 0 };
    match error {
        CallError::Invalid(text) => (INVALID, Detail::Text(text)),
        CallError::TooLarge { len, limit } => (TOO_LARGE, Detail::Numbers([*len, *limit])),
        CallError::NoService => (NO_SERVICE, Detail::None),
        CallError::Denied => (DENIED, Detail::None),
        CallError::NotStarted => (NOT_STARTED, Detail::None),
        CallError::Draining => (DRAINING, Detail::None),
        CallError::MaybeExecuted => (MAYBE_EXECUTED, Detail::None),
        CallError::Deadline { started: yes } => (DEADLINE | started(*yes), Detail::None),
        CallError::Cancelled { started: yes } => (CANCELLED | started(*yes), Detail::None),
        CallError::Overloaded { retry_after } => {
            let nanos = u64::try_from(retry_after.as_nanos()).unwrap_or(u64::MAX);
            (OVERLOADED, Detail::Numbers([nanos, 0]))
        }
        // A third party's lie is not the caller's business, and must not make the callee look guilty.
        CallError::ProtocolViolation(_) => (INTERNAL, Detail::Text("a peer of the callee violated the protocol")),
        CallError::Internal(text) => (INTERNAL, Detail::Text(text)),
    }
}

/// Reads an error answer. The outer error: it is none.
pub(crate) fn decode(code: u16, view: View<'_>) -> Result<CallError, Violation> {
    let text = || {
        let mut bytes = vec![0; view.len().min(MAX_TEXT)];
        view.copy_to(0, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let numbers = || view.pod::<[u64; 2]>().map_err(|_| Violation::ErrorReply { code });
    let started = code & STARTED != 0;
    match code & !STARTED {
        DEADLINE => return Ok(CallError::Deadline { started }),
        CANCELLED => return Ok(CallError::Cancelled { started }),
        _ if started => return Err(Violation::ErrorReply { code }),
        _ => {}
    }
    Ok(match code {
        INVALID => CallError::Invalid(text()),
        TOO_LARGE => numbers().map(|[len, limit]| CallError::TooLarge { len, limit })?,
        NO_SERVICE => CallError::NoService,
        DENIED => CallError::Denied,
        NOT_STARTED => CallError::NotStarted,
        DRAINING => CallError::Draining,
        MAYBE_EXECUTED => CallError::MaybeExecuted,
        OVERLOADED => {
            let [nanos, _] = numbers()?;
            CallError::Overloaded { retry_after: Duration::from_nanos(nanos) }
        }
        INTERNAL => CallError::Internal(text()),
        _ => return Err(Violation::ErrorReply { code }),
    })
}
