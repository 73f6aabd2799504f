//! `mortise shutdown`.

use super::fault::{Done, Fault};
use super::progress;
use super::session::Session;
use super::units;
use crate::admin::Stopped;
use crate::api::{ApiError, Blame, ErrorCode};

/// Asks for an orderly end and waits for it.
pub async fn shut_down(session: &Session) -> Done {
    let spinner = progress::spinner("stopping every module".to_owned());
    let answered = session.client.post_json("/v1/shutdown", b"null".to_vec(), session.timeout).await;
    spinner.finish_and_clear();
    let stopped: Stopped = match answered {
        Ok(body) => serde_json::from_slice(&body).map_err(|error| Fault::torn(&error))?,
        Err(fault) if fault.error.code == ErrorCode::Deadline => return Err(late(session).into()),
        Err(fault) => return Err(fault.into()),
    };
    if session.screen.json {
        return session.screen.json(&stopped);
    }
    session.screen.line(&format!("stopped: {} workers have ended, and the supervisor ends", stopped.workers))
}

fn late(session: &Session) -> Fault {
    let message = format!("not everything has stopped after {}", units::age(session.timeout));
    ApiError::new(ErrorCode::Deadline, Blame::Host, message)
        .remedy("It goes on: `mortise ps` shows what still runs, --timeout sets how long to wait.")
        .into()
}
