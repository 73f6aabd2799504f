//! Where calls of one service go: which channels, by which weights. Advice of the supervisor's, for speed; what is enforced is
//! the grant behind a channel and the callee's close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use mortise_control::{ChannelId, ServiceName, ToSupervisor};
use shm_rpc::{Deadline, Encoding};
use tokio::sync::Notify;

use super::Failure;
use super::context::random;
use crate::figures::Counter;
use crate::worker::Reports;

/// The calling end of one channel.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: ChannelId,
    pub(crate) client: shm_rpc::Client,
    pub(crate) encoding: Encoding,
    violation_told: AtomicBool,
}

impl Outgoing {
    pub(crate) fn new(id: ChannelId, client: shm_rpc::Client, encoding: Encoding) -> Self {
        Self { id, client, encoding, violation_told: AtomicBool::new(false) }
    }
}

/// One worker that answers, and its share.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) channel: Arc<Outgoing>,
    pub(crate) weight: u32,
}

/// Whether it makes sense to wait for a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nobody has said that there will be none.
    #[default]
    Somebody,
    /// The supervisor has said that nobody offers the service.
    Nobody,
}

#[derive(Debug, Default)]
struct Table {
    routes: Vec<Route>,
    expected: Expected,
}

/// The routes of one service.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) service: ServiceName,
    pub(crate) counter: Counter,
    table: ArcSwap<Table>,
    changed: Notify,
    reports: Reports,
}

/// One at random, by weight.
fn by_weight<'a>(routes: impl Iterator<Item = &'a Route> + Clone) -> Option<&'a Route> {
    let total: u64 = routes.clone().map(|it| u64::from(it.weight)).sum();
    let mut at = random().checked_rem(total)?;
    for route in routes {
        match at.checked_sub(u64::from(route.weight)) {
            Some(left) => at = left,
            None => return Some(route),
        }
    }
    None
}

impl Routes {
    pub(crate) fn new(service: ServiceName, counter: Counter, reports: Reports) -> Self {
        Self { service, counter, table: ArcSwap::default(), changed: Notify::new(), reports }
    }

    /// Puts these in force for every later call, and wakes those that wait for a target.
    pub(crate) fn replace(&self, routes: Vec<Route>, expected: Expected) {
        self.table.store(Arc::new(Table { routes, expected }));
        self.changed.notify_waiters();
    }

    /// A target by weight, none of those in `except`; where others have the same weight, the less busy one of two (Mitzenmacher,
    /// The power of two choices in randomized load balancing, 2001).
    pub(crate) fn pick(&self, except: &[ChannelId]) -> Option<Arc<Outgoing>> {
        let table = self.table.load();
        if let [only] = table.routes.as_slice() {
            let possible = only.weight > 0 && !except.contains(&only.channel.id);
            return possible.then(|| Arc::clone(&only.channel));
        }
        let possible = |it: &Route| it.weight > 0 && !except.contains(&it.channel.id);
        let first = by_weight(table.routes.iter().filter(|it| possible(it)))?;
        let peers = || table.routes.iter().filter(|it| possible(it) && it.weight == first.weight);
        let second = by_weight(peers().filter(|it| it.channel.id != first.channel.id));
        let chosen = match second {
            Some(second) if second.channel.client.outstanding() < first.channel.client.outstanding() => second,
            Some(_) | None => first,
        };
        Some(Arc::clone(&chosen.channel))
    }

    /// A target, waiting for one until the deadline, unless none is to come.
    pub(crate) async fn pick_or_wait(
        &self,
        except: &[ChannelId],
        deadline: Option<Deadline>,
    ) -> Result<Arc<Outgoing>, Failure> {
        loop {
            // Made before it looks: it hears every change from here on, awaited or not.
            let changed = self.changed.notified();
            if let Some(target) = self.pick(except) {
                return Ok(target);
            }
            if self.table.load().expected == Expected::Nobody {
                return Err(Failure::NoService);
            }
            match deadline {
                None => changed.await,
                Some(deadline) if deadline.has_passed() => return Err(Failure::Deadline { started: false }),
                // Late by a timer's millisecond at most: looked at again above.
                Some(deadline) => drop(tokio::time::timeout(deadline.remaining(), changed).await),
            }
        }
    }

    /// Tells the supervisor, once per channel, that its callee lied.
    pub(crate) fn tell_violation(&self, target: &Outgoing) {
        if let Some(violation) = target.client.violation()
            && !target.violation_told.swap(true, Relaxed)
        {
            self.reports.send(ToSupervisor::Violation { channel: target.id, what: violation.to_string() });
        }
    }
}
