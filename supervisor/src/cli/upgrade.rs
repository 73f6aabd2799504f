//! `mortise upgrade`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::fault::{Done, Fault};
use super::progress;
use super::session::{Session, Wait};
use super::units;
use crate::admin::{Upgrade, Upgrading};
use crate::api::{ApiError, Blame, ErrorCode, Snapshot};

/// Between two looks whether it has taken over.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Asks the supervisor to become another program, and waits until that answers.
pub async fn upgrade(session: &Session, binary: &Path) -> Done {
    let binary = std::path::absolute(binary).map_err(|error| invalid(binary, &error))?;
    let before: Snapshot = session.client.get("/v1/snapshot").await?;
    let spinner = progress::spinner("checking the other program".to_owned());
    let body = serde_json::to_vec(&Upgrade { binary }).map_err(|error| Fault::torn(&error))?;
    let answered = session.client.post_json("/v1/upgrade", body, session.timeout).await;
    spinner.finish_and_clear();
    let upgrading: Upgrading = serde_json::from_slice(&answered?).map_err(|error| Fault::torn(&error))?;
    if session.wait == Wait::Ended {
        taken_over(session, &before).await?;
    }
    if session.screen.json {
        return session.screen.json(&upgrading);
    }
    session.screen.line(&format!("upgraded from {} to {}", upgrading.from, upgrading.to))
}

async fn taken_over(session: &Session, before: &Snapshot) -> Result<(), Fault> {
    let deadline = Instant::now() + session.timeout;
    loop {
        let now: Result<Snapshot, Fault> = session.client.get("/v1/snapshot").await;
        if now.is_ok_and(|it| it.host.started != before.host.started) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("the other program does not answer after {}", units::age(session.timeout));
            return Err(ApiError::new(ErrorCode::Deadline, Blame::Host, message)
                .remedy("Look at the log of mortised: `journalctl -u mortised`.")
                .into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn invalid(binary: &Path, error: &std::io::Error) -> Fault {
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{}: {error}", binary.display())).into()
}
