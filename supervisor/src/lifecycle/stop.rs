//! The supervisor stops in order: bases first, so that nothing comes in, then callers before those they call.

use super::state::State;
use super::turn::Turn;
use super::worker::{Life, Worker};
use super::{Action, ModuleKey, Runtime};

impl State {
    pub(super) fn stop_all(&mut self) {
        self.stopping = true;
        self.touch_everything();
    }

    /// Whether everybody who could call a module is gone.
    pub(super) fn may_leave(&self, key: &ModuleKey) -> bool {
        if self.stop_at_once {
            return true;
        }
        let Some(module) = self.modules.get(key) else { return true };
        let mut workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        if workers.clone().any(|it| it.spec.runtime == Runtime::Base) {
            return true;
        }
        if !self.index.bases.is_empty() {
            return false;
        }
        !workers.any(|worker| {
            worker.spec.provides.iter().any(|provided| {
                let callers = self.callers_of(&key.tenant, &provided.service);
                callers.flatten().filter_map(|it| self.slots.get(*it)).any(|it| it.key != *key)
            })
        })
    }

    /// The last rule while stopping.
    pub(super) fn finish_stop(&mut self, turn: &mut Turn<'_>) {
        if !self.stopping || self.all_stopped {
            return;
        }
        // Modules that call each other in a circle have no order: they go together.
        let leaving = |it: &Worker| it.leaving.is_some() || matches!(it.life, Life::Removing(_));
        if !self.slots.is_empty() && !self.stop_at_once && !self.slots.workers().any(leaving) {
            self.stop_at_once = true;
            self.touch_everything();
            return self.settle(turn);
        }
        if self.slots.is_empty() && self.channels.is_empty() && self.resources.is_empty() && self.journal.idle() {
            self.all_stopped = true;
            turn.act(Action::AllStopped);
        }
    }

    /// Every rule about everything runs again.
    pub(super) fn touch_everything(&mut self) {
        self.touched.modules.extend(self.modules.keys().cloned());
        self.touched.resources.extend(self.resources.keys().cloned());
        self.touched.workers.extend(self.slots.workers().map(|it| it.id));
        self.touched.callers.extend(self.slots.workers().map(|it| it.id));
        self.touched.channels.extend(self.channels.keys().copied());
        self.touched.operations.extend(self.operations.unended().map(|it| it.operation.id.clone()));
        self.touched.slots.extend(self.slots.numbers());
        self.touched.http = true;
    }
}
