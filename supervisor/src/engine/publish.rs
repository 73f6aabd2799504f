//! What the loop shows: after each turn that changed something, before anybody gets an answer that rests on it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Published;
use crate::api::{ApiError, HostStatus, Operation, OperationId};
use crate::lifecycle::{Action, Event, State, Timer};

/// What is to be shown and said at the end of this turn.
#[derive(Debug)]
pub(super) struct Publisher {
    published: Arc<Published>,
    host: HostStatus,
    operations: HashMap<OperationId, Operation>,
    state_changed: bool,
    operations_changed: bool,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

pub(super) type Answer = Result<Operation, ApiError>;

impl Publisher {
    pub fn new(published: Arc<Published>, host: HostStatus, operations: Vec<Operation>) -> Self {
        let operations = operations.into_iter().map(|it| (it.id.clone(), it)).collect();
        Self { published, host, operations, state_changed: true, operations_changed: true, answers: Vec::new() }
    }

    /// An event and what followed: whether anybody can see a difference. Pings are most of what happens on a quiet host.
    pub fn saw(&mut self, event: Pulse, actions: &[Action]) {
        let quiet = |it: &Action| matches!(it, Action::SetTimer { .. } | Action::SendPing { .. });
        self.state_changed |= event == Pulse::No || !actions.iter().all(quiet);
    }

    /// An operation as it stands now.
    pub fn operation(&mut self, operation: Operation) {
        self.operations.insert(operation.id.clone(), operation);
        self.operations_changed = true;
    }

    /// An operation that is not remembered any more.
    pub fn forget(&mut self, operation: &OperationId) {
        self.operations_changed |= self.operations.remove(operation).is_some();
    }

    /// Lifecycle events.
    pub fn emit(&self, event: crate::api::Event) {
        tracing::info!(
            target: "mortise::event",
            kind = ?event.kind,
            tenant = event.tenant.as_ref().map(tracing::field::display),
            module = event.module.as_ref().map(tracing::field::display),
            version = event.version,
            worker = event.worker,
            operation = event.operation,
            "{}",
            event.text
        );
        self.published.events.append(event);
    }

    /// To be said once the state that it rests on can be seen.
    pub fn answer(&mut self, to: oneshot::Sender<Answer>, answer: Answer) {
        self.answers.push((to, answer));
    }

    /// A module is not installed any more.
    pub fn forget_logs(&self, key: &crate::lifecycle::ModuleKey) {
        self.published.logs.forget(&key.tenant, &key.module);
    }

    /// Shows what has changed, then answers.
    pub fn publish(&mut self, state: &mut State) {
        if std::mem::take(&mut self.operations_changed) {
            self.published.operations.store(Arc::new(self.operations.clone()));
            self.state_changed = true;
        }
        if std::mem::take(&mut self.state_changed) {
            let mut snapshot = state.show();
            snapshot.host = self.host.clone();
            self.published.state.store(Arc::new(snapshot));
            self.published.changed.send_modify(|changes| *changes += 1);
        }
        for (to, answer) in self.answers.drain(..) {
            // Who does not wait any more can ask for the operation.
            let _ = to.send(answer);
        }
    }
}

/// Whether an event is one of the regular pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Yes,
    No,
}

impl From<&Event> for Pulse {
    fn from(event: &Event) -> Self {
        use mortise_control::ToSupervisor::Pong;
        match event {
            Event::Timer(Timer::Ping(_) | Timer::Pong { .. } | Timer::Stable(_))
            | Event::Message { message: Pong { .. }, .. } => Self::Yes,
            _ => Self::No,
        }
    }
}
