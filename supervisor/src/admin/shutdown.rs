//! An orderly end, asked for by a request and not by a signal: under systemd a signal cannot say whether the modules are to go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use super::{Access, Caller, Shared};
use crate::api::{ApiError, Blame, ErrorCode};
use crate::daemon::Candidate;

/// What joins the request with the daemon that follows it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    other: watch::Sender<Option<Arc<Candidate>>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { asked: watch::Sender::new(false), ended: watch::Sender::new(false), other: watch::Sender::new(None) }
    }
}

impl Shutdown {
    /// Returns once somebody has asked for it.
    pub async fn asked(&self) {
        reached(&self.asked).await;
    }

    /// Returns the program that the supervisor is to become, once somebody has asked for that.
    pub(crate) async fn becomes(&self) -> Arc<Candidate> {
        let mut other = self.other.subscribe();
        let asked = other.wait_for(Option::is_some).await.map(|it| it.clone());
        match asked {
            Ok(Some(candidate)) => candidate,
            // The sender is ours, and the value was looked at.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Asks for it to become that program.
    ///
    /// # Errors
    /// It is on its way to its end, or to become another one.
    pub(crate) fn become_other(&self, candidate: Arc<Candidate>) -> Result<(), ApiError> {
        let busy =
            |what: &str| Err(ApiError::new(ErrorCode::Conflict, Blame::Caller, format!("the supervisor {what}")));
        if *self.asked.borrow() {
            return busy("is shutting down");
        }
        let taken = self.other.send_if_modified(|other| {
            let is_first = other.is_none();
            other.get_or_insert(candidate);
            is_first
        });
        if taken { Ok(()) } else { busy("is becoming another program already") }
    }

    /// Nothing runs any more: whoever asked is answered.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    async fn carried_out(&self) {
        self.asked.send_replace(true);
        reached(&self.ended).await;
    }
}

async fn reached(flag: &watch::Sender<bool>) {
    let _ = flag.subscribe().wait_for(|it| *it).await.map(|it| *it);
}

/// What has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// Workers that ran when it was asked for.
    pub workers: usize,
}

/// Stops every module in order (bases first, then callers before those they call) and then the supervisor. Answers when nothing runs any
/// more. What is desired is kept: the next supervisor starts it again.
#[utoipa::path(post, path = "/v1/shutdown", tag = "host", responses((status = 200, body = Stopped)))]
pub(super) async fn shut_down(State(shared): State<Shared>, caller: Caller) -> Result<Json<Stopped>, ApiError> {
    caller.may(Access::ShutDown)?;
    let state = shared.api.handle.state();
    let workers = state.modules.iter().flat_map(|it| &it.workers).filter(|it| it.pid.is_some()).count();
    shared.api.shutdown.carried_out().await;
    Ok(Json(Stopped { workers }))
}
