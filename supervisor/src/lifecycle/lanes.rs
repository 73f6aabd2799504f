//! Lanes: while a group changes, a call within it stays in one generation.
//!
//! ```text
//!   caller ─▶ a@1 ─▶ b@1        channels of the old generation, until a@1 has finished what it has begun
//!          ╲
//!           ▶ a@2 ─▶ b@2        channels of the new one, made before the commit
//! ```
//!
//! So there is an order in which old workers leave: who calls before who is called. Modules that require each other in a circle have none, so
//! between them this does not hold.

use std::collections::BTreeSet;

use mortise_control::ServiceName;

use super::ModuleKey;
use super::channel::{Edge, EdgeState, End, Stage as ChannelStage};
use super::state::State;
use super::worker::Worker;
use crate::api::OperationId;

/// Whether the two ends of an edge are of the same generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Both are of the generation that was there.
    Old,
    /// Both are of the one that comes.
    New,
    /// One of each.
    Apart,
}

impl State {
    /// The lane of an edge between two modules that change together; none: they do not.
    pub(super) fn lane(&self, caller: &Worker, callee: &Worker, service: &ServiceName) -> Option<Lane> {
        let (from, to) = (self.operations.on(&caller.key)?, self.operations.on(&callee.key)?);
        let whole = from.part_of.as_ref().filter(|it| to.part_of.as_ref() == Some(*it))?;
        if !caller.spec.requires.contains(service) || self.requires(whole, &callee.key, &caller.key) {
            return None;
        }
        Some(match (caller.cohort == from.order, callee.cohort == to.order) {
            (false, false) => Lane::Old,
            (true, true) => Lane::New,
            (true, false) | (false, true) => Lane::Apart,
        })
    }

    /// Whether a module of a group requires another, by others of the group or by itself. What any of its installed versions
    /// requires counts, for that does not change while the group does.
    fn requires(&self, whole: &OperationId, from: &ModuleKey, to: &ModuleKey) -> bool {
        let Some(op) = self.operations.get(whole) else { return false };
        let members = op.parts.iter().filter_map(|it| self.operations.get(it)?.key.as_ref());
        let members: BTreeSet<&ModuleKey> = members.collect();
        let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(key) = next.pop() {
            let versions = self.modules.get(key).into_iter().flat_map(|it| it.versions.values());
            let required = versions.flat_map(|it| &it.spec.requires);
            for owner in required.filter_map(|it| self.publisher(&key.tenant, it)) {
                if owner == to {
                    return true;
                }
                if members.contains(owner) && seen.insert(owner) {
                    next.push(owner);
                }
            }
        }
        false
    }

    /// Whether an old worker of the module is still called by an old one of another module of its group, or may be.
    pub(super) fn is_held(&self, key: &ModuleKey) -> bool {
        if self.operations.on(key).is_none_or(|it| it.part_of.is_none()) {
            return false;
        }
        let workers = self.modules.get(key).into_iter().flat_map(|it| &it.workers).filter_map(|it| self.slots.get(*it));
        workers.into_iter().any(|callee| {
            let channels = callee.channels.iter().filter_map(|it| self.channels.get(it));
            let called = channels.filter(|it| it.edge.callee == callee.id && it.callee != End::Released);
            let by_old = |edge: &Edge| {
                self.slots.get(edge.caller).is_some_and(|it| self.lane(it, callee, &edge.service) == Some(Lane::Old))
            };
            called.into_iter().any(|it| by_old(&it.edge))
                || !callee.reported.is_empty()
                || self.recovering.contains(&callee.id)
        })
    }

    /// Whether what comes of a module can call what comes with it.
    pub(super) fn lanes_are_open(&self, key: &ModuleKey, cohort: u64) -> bool {
        let of =
            |key| self.modules.get(key).into_iter().flat_map(|it| &it.workers).filter_map(|it| self.slots.get(*it));
        of(key).filter(|it| it.cohort == cohort).all(|caller| {
            caller.called_services().all(|service| {
                let Some(publisher) = self.publisher(&caller.key.tenant, service) else { return true };
                of(publisher).filter(|it| it.stays()).all(|callee| {
                    let edge = Edge { caller: caller.id, callee: callee.id, service: service.clone() };
                    if self.lane(caller, callee, service) != Some(Lane::New) || !self.granted(&edge) {
                        return true;
                    }
                    match self.edges.get(&edge) {
                        None => false,
                        Some(EdgeState::Waiting | EdgeState::Parted) => true,
                        Some(EdgeState::Channel(id)) => {
                            self.channels.get(id).is_some_and(|it| it.stage != ChannelStage::Attaching)
                        }
                    }
                })
            })
        })
    }

    /// The module does not change together with others any more: who calls it, and whom it calls, is as ever, and nobody stays for it.
    pub(super) fn leave_lanes(&mut self, whole: &OperationId, key: &ModuleKey) {
        let parts = self.operations.get(whole).into_iter().flat_map(|it| &it.parts);
        let others: Vec<ModuleKey> = parts.filter_map(|it| self.operations.get(it)?.key.clone()).collect();
        self.touched.modules.extend(others);
        self.touch_provider(key);
        let Some(module) = self.modules.get(key) else { return };
        for worker in module.workers.iter().filter_map(|it| self.slots.get(*it)) {
            self.touched.callers.insert(worker.id);
            self.touched.channels.extend(&worker.channels);
        }
    }
}
