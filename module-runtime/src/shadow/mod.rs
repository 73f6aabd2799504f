//! Shadow traffic: a share of the calls is also sent to the version beside, and the answers are compared.
//!
//! ```text
//!   Caller::call ── sampled ──▶ encoded once ──▶ the call, as any other ──────────▶ its caller
//!                                   │                        └── a copy of the answer ──▶ compare ──▶ Book ──▶ supervisor
//!                                   └──▶ the copy, in a task of its own ──▶ its answer ────▲
//! ```
//! The call never waits for its copy, and never fails by it: the copy is begun only where there is room, and given up when the routes
//! change. Answers are decoded and compared as what the method returns, by `value` and `compare`; `book` keeps the sums.

mod book;
mod compare;
mod copy;
mod value;

#[cfg(test)]
mod tests;

use book::MOST_RUNNING;
pub(crate) use book::{Book, Verdict};
pub(crate) use copy::{Answered, Copy, Heard, compare as compare_answers};

use std::sync::Arc;

use mortise_control::ChannelId;
use mortise_control::shadow::ShadowRoute;
use tokio::sync::watch;

use crate::call::random;
use crate::call::routes::Outgoing;

/// Where copies go, as long as the routes say so.
#[derive(Debug)]
pub(crate) struct Shadow {
    route: ShadowRoute,
    targets: Vec<Arc<Outgoing>>,
    pub(crate) book: Arc<Book>,
    /// Dropped with this: copies that are under way are given up.
    in_force: watch::Sender<()>,
}

impl Shadow {
    pub(crate) fn new(route: ShadowRoute, targets: Vec<Arc<Outgoing>>, book: Arc<Book>) -> Self {
        Self { route, targets, book, in_force: watch::Sender::new(()) }
    }

    /// Whether it is what this would be.
    pub(crate) fn is(&self, route: &ShadowRoute, targets: &[Arc<Outgoing>]) -> bool {
        self.route == *route && self.targets.iter().map(|it| it.id).eq(targets.iter().map(|it| it.id))
    }

    /// Whether the next call is one of the share.
    pub(crate) fn takes_next(&self) -> bool {
        random() % 100 < u64::from(self.route.percent)
    }

    /// Whether a channel leads to the version beside.
    pub(crate) fn reaches(&self, channel: ChannelId) -> bool {
        self.targets.iter().any(|it| it.id == channel)
    }

    /// The least busy worker of the version beside. One that holds as many calls as there may be copies gets no more: those that were
    /// given up, and that it has not let go of, count.
    pub(crate) fn target(&self) -> Option<&Arc<Outgoing>> {
        let open = self.targets.iter().filter(|it| it.client.is_open());
        let (outstanding, target) = open.map(|it| (it.client.outstanding(), it)).min_by_key(|it| it.0)?;
        (outstanding < MOST_RUNNING).then_some(target)
    }

    /// Ends when copies are to be given up.
    pub(crate) fn in_force(&self) -> watch::Receiver<()> {
        self.in_force.subscribe()
    }
}
