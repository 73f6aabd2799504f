//! What one call of `step` carries along: the moment, the dice, and what is to be done.

use std::time::Duration;

use mortise_control::WorkerId;
use semver::Version;

use super::ids::Draw;
use super::{Action, ModuleKey, Now, Timer};
use crate::api::{self, EventKind, OperationId};

/// One call of `step`.
pub(super) struct Turn<'a> {
    pub(super) now: &'a Now,
    pub(super) draw: Draw<'a>,
    pub(super) actions: Vec<Action>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(now: &'a Now) -> Self {
        Self { now, draw: Draw::new(now), actions: Vec::new() }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn timer(&mut self, timer: Timer, after: Duration) {
        self.actions.push(Action::SetTimer { timer, at: self.now.mono + after });
    }

    pub(super) fn tell(&mut self, kind: EventKind, about: About<'_>, text: impl Into<String>) {
        self.actions.push(Action::Emit(Box::new(api::Event {
            seq: 0,
            at: self.now.wall,
            kind,
            tenant: about.key.map(|it| it.tenant.clone()),
            module: about.key.map(|it| it.module.clone()),
            version: about.version.map(ToString::to_string),
            worker: about.worker.map(|it| it.to_string()),
            operation: about.operation.map(ToString::to_string),
            text: text.into(),
        })));
    }
}

/// What an event of the event stream is about.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) key: Option<&'a ModuleKey>,
    pub(super) version: Option<&'a Version>,
    pub(super) worker: Option<WorkerId>,
    pub(super) operation: Option<&'a OperationId>,
}
