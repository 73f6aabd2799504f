//! Where calls of one service go: which channels, by which weights. Advice of the supervisor's, for speed; what is enforced is
//! the grant behind a channel and the callee's close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use mortise_control::routing::{Asked, Rule, choose, tags};
use mortise_control::shadow::ShadowRoute;
use mortise_control::{ChannelId, ServiceName, ToSupervisor};
use semver::Version;
use shm_rpc::{Deadline, Encoding, Tags};
use tokio::sync::Notify;

use super::Failure;
use super::context::random;
use super::method::Repeat;
use crate::figures::Counter;
use crate::shadow::{Book, Shadow};
use crate::worker::Reports;

// Every tag that a route can name fits into a call.
const _: () = assert!(tags::MOST == Tags::MAX);

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

/// What says which version answers a call before shares do.
#[derive(Debug)]
pub(crate) struct Ruled {
    pub(crate) rules: Vec<Rule>,
    /// The workers of each version, with their shares among themselves.
    pub(crate) versions: Vec<(Version, Vec<Route>)>,
}

impl Ruled {
    /// What a rule says of a call with these tags; none: no rule does.
    fn pick(&self, tags: &Tags, except: &[ChannelId]) -> Option<&Arc<Outgoing>> {
        let of = |version: &Version| self.versions.iter().find(|(it, _)| it == version).map(|(_, routes)| &routes[..]);
        let answers =
            |version: &Version| of(version).is_some_and(|routes| routes.iter().any(|it| is_possible(it, except)));
        let asked = Asked { tags: tags.as_bytes(), http: None };
        less_busy(of(choose(&self.rules, &asked, answers, random)?)?, except)
    }
}

/// Whether it makes sense to wait for a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nobody has said that there will be none.
    #[default]
    Somebody,
    /// The supervisor has said that nobody offers the service.
    Nobody,
    /// The supervisor has said that this worker has no right to it.
    Denied,
}

#[derive(Debug, Default)]
struct Table {
    routes: Vec<Route>,
    ruled: Option<Box<Ruled>>,
    expected: Expected,
    shadow: Option<Arc<Shadow>>,
}

/// The routes of one service.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) service: ServiceName,
    pub(crate) counter: Counter,
    table: ArcSwap<Table>,
    /// Whether the table has a shadow: all that a call looks at where there is none.
    shadows: AtomicBool,
    /// The comparison that there is or was last.
    book: Mutex<Option<Arc<Book>>>,
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

fn is_possible(route: &Route, except: &[ChannelId]) -> bool {
    route.weight > 0 && !except.contains(&route.channel.id)
}

/// A target by weight, none of those in `except`; where others have the same weight, the less busy one of two (Mitzenmacher,
/// The power of two choices in randomized load balancing, 2001).
fn less_busy<'a>(routes: &'a [Route], except: &[ChannelId]) -> Option<&'a Arc<Outgoing>> {
    let first = by_weight(routes.iter().filter(|it| is_possible(it, except)))?;
    let peers = || routes.iter().filter(|it| is_possible(it, except) && it.weight == first.weight);
    let second = by_weight(peers().filter(|it| it.channel.id != first.channel.id));
    match second {
        Some(second) if second.channel.client.outstanding() < first.channel.client.outstanding() => {
            Some(&second.channel)
        }
        Some(_) | None => Some(&first.channel),
    }
}

impl Routes {
    pub(crate) fn new(service: ServiceName, counter: Counter, reports: Reports) -> Self {
        Self {
            service,
            counter,
            table: ArcSwap::default(),
            shadows: AtomicBool::new(false),
            book: Mutex::default(),
            changed: Notify::new(),
            reports,
        }
    }

    /// Puts these in force for every later call, and wakes those that wait for a target.
    pub(crate) fn replace(
        &self,
        routes: Vec<Route>,
        ruled: Option<Ruled>,
        expected: Expected,
        shadow: Option<(ShadowRoute, Vec<Arc<Outgoing>>)>,
    ) {
        let shadow = shadow.map(|(route, targets)| self.shadow_of(route, targets));
        self.shadows.store(shadow.is_some(), Relaxed);
        self.table.store(Arc::new(Table { routes, ruled: ruled.map(Box::new), expected, shadow }));
        self.changed.notify_waiters();
    }

    /// The one that there is, if nothing about it changes: its copies go on.
    fn shadow_of(&self, route: ShadowRoute, targets: Vec<Arc<Outgoing>>) -> Arc<Shadow> {
        let table = self.table.load();
        if let Some(shadow) = table.shadow.as_ref().filter(|it| it.is(&route, &targets)) {
            return Arc::clone(shadow);
        }
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let known = book.take().filter(|it| it.run == route.run);
        let new = || Arc::new(Book::new(self.service.clone(), route.run, self.reports.clone()));
        let book = book.insert(known.unwrap_or_else(new));
        Arc::new(Shadow::new(route, targets, Arc::clone(book)))
    }

    /// Where a call of a method is to be sent as well: one of the share, and only if it may be executed twice.
    pub(crate) fn shadow(&self, repeat: Repeat) -> Option<Arc<Shadow>> {
        if repeat != Repeat::Idempotent || !self.shadows.load(Relaxed) {
            return None;
        }
        self.table.load().shadow.as_ref().filter(|it| it.takes_next()).map(Arc::clone)
    }

    /// What has been compared so far.
    #[cfg(test)]
    pub(crate) fn compared(&self) -> Option<mortise_control::shadow::Shadowed> {
        self.book.lock().unwrap().as_ref().map(|it| it.told())
    }

    /// Tells the supervisor, which has come, what has been compared so far.
    pub(crate) fn tell_again(&self) {
        if let Some(book) = &*self.book.lock().unwrap_or_else(PoisonError::into_inner) {
            book.tell();
        }
    }

    /// A target for a call with these tags, none of those in `except`: of the version that a rule says, if one does.
    pub(crate) fn pick(&self, tags: &Tags, except: &[ChannelId]) -> Option<Arc<Outgoing>> {
        let table = self.table.load();
        if let Some(ruled) = &table.ruled
            && let Some(target) = ruled.pick(tags, except)
        {
            return Some(Arc::clone(target));
        }
        match table.routes.as_slice() {
            [only] => is_possible(only, except).then(|| Arc::clone(&only.channel)),
            routes => less_busy(routes, except).map(Arc::clone),
        }
    }

    /// A target, waiting for one until the deadline, unless none is to come.
    pub(crate) async fn pick_or_wait(
        &self,
        tags: &Tags,
        except: &[ChannelId],
        deadline: Option<Deadline>,
    ) -> Result<Arc<Outgoing>, Failure> {
        loop {
            // Made before it looks: it hears every change from here on, awaited or not.
            let changed = self.changed.notified();
            if let Some(target) = self.pick(tags, except) {
                return Ok(target);
            }
            match self.table.load().expected {
                Expected::Somebody => {}
                Expected::Nobody => return Err(Failure::NoService),
                Expected::Denied => return Err(Failure::Denied),
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
