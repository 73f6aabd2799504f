//! Whose circumstances have changed, so that the rules about them must run again. Rules are functions of the whole state;
//! this only spares the work of running those whose outcome cannot have changed. (A test touches everything after every
//! event and sees that no rule has anything left to do.)

use std::collections::BTreeSet;

use mortise_control::{ChannelId, WorkerId};

use super::{ModuleKey, ResourceId};
use crate::api::OperationId;

#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Which workers it should have.
    pub(super) modules: BTreeSet<ModuleKey>,
    /// Whether it should be loaded.
    pub(super) resources: BTreeSet<ResourceId>,
    /// What comes next in its life.
    pub(super) workers: BTreeSet<WorkerId>,
    /// Whether it may exist.
    pub(super) channels: BTreeSet<ChannelId>,
    /// Which channels and routes it should have.
    pub(super) callers: BTreeSet<WorkerId>,
    /// The routes of the bases.
    pub(super) http: bool,
    /// How far it is.
    pub(super) operations: BTreeSet<OperationId>,
    /// Whether what is on disk of it is what should be.
    pub(super) slots: BTreeSet<u32>,
}
