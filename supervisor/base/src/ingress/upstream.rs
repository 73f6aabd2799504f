//! One worker as the ingress knows it: who may send to it, and when the last request to it has ended.
//!
//! A flip of routes rests on [`Upstream::enter`] and [`Upstream::retire`] deciding on one word: a request that still looks at the
//! old routes either enters before the retirement, and is counted, or is turned away and looks at the new ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

use mortise_control::{HttpReach, HttpTarget, ModuleName, WorkerId};
use tokio::sync::mpsc::UnboundedSender;

use super::connection::Pool;
use super::limits::Limits;

/// Set in `state` when no request may enter any more; the rest is the number of requests in flight.
const RETIRED: u64 = 1 << 63;

/// A worker that answers HTTP requests.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) worker: WorkerId,
    pub(crate) module: ModuleName,
    pub(crate) version: semver::Version,
    pub(crate) socket: PathBuf,
    pub(crate) reach: HttpReach,
    /// Idle connections to it.
    pub(crate) pool: Mutex<Pool>,
    state: AtomicU64,
    drained: UnboundedSender<WorkerId>,
}

/// Whether a request may be sent.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It counts as in flight until the lease is dropped.
    Lease(Lease),
    /// The worker is not routed any more: look at the routes again.
    Retired,
    /// It has as many as it may have.
    Full,
}

/// What retiring a worker found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retired {
    /// Nothing was in flight.
    Idle,
    /// The last lease will say when it is idle.
    Busy,
    /// It was retired before, and its end has been told.
    Ended,
}

/// What bringing a retired worker back found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revived {
    /// It takes requests again, and nobody was told that it had ended.
    Yes,
    /// Its end has been told.
    TooLate,
}

impl Upstream {
    pub(crate) fn new(target: &HttpTarget, limits: &Limits, drained: UnboundedSender<WorkerId>) -> Self {
        Self {
            worker: target.worker,
            module: target.module.clone(),
            version: target.version.clone(),
            socket: target.socket.clone(),
            reach: target.reach,
            pool: Mutex::new(Pool::new(limits.pool_size, limits.pool_time)),
            state: AtomicU64::new(0),
            drained,
        }
    }

    /// Counts a request in, if it may be sent.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Entered {
        // Acquire pairs with the AcqRel of `retire` (edge R): who sees the retirement sees the routes stored before it.
        let mut seen = self.state.load(Acquire);
        loop {
            if seen & RETIRED != 0 {
                return Entered::Retired;
            }
            if seen >= u64::from(most) {
                return Entered::Full;
            }
            match self.state.compare_exchange_weak(seen, seen + 1, AcqRel, Acquire) {
                Ok(_) => return Entered::Lease(Lease(Arc::clone(self))),
                Err(now) => seen = now,
            }
        }
    }

    /// Requests that have entered and not ended.
    pub(crate) fn in_flight(&self) -> u64 {
        self.state.load(Acquire) & !RETIRED
    }

    /// No request enters any more. Must follow the storing of routes without this worker (edge R).
    pub(crate) fn retire(&self) -> Retired {
        let before = self.state.fetch_or(RETIRED, AcqRel);
        self.lock_pool().clear();
        match before {
            0 => Retired::Idle,
            RETIRED => Retired::Ended,
            _ => Retired::Busy,
        }
    }

    /// Requests may enter again.
    pub(crate) fn revive(&self) -> Revived {
        let mut seen = self.state.load(Acquire);
        loop {
            if seen == RETIRED {
                return Revived::TooLate;
            }
            match self.state.compare_exchange_weak(seen, seen & !RETIRED, AcqRel, Acquire) {
                Ok(_) => return Revived::Yes,
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state.load(Acquire) & RETIRED != 0
    }

    /// Whether the routes mean the worker and socket that this one is.
    pub(crate) fn is(&self, target: &HttpTarget) -> bool {
        self.worker == target.worker && self.socket == target.socket && self.reach == target.reach
    }

    pub(crate) fn lock_pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A request in flight to a worker.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Upstream>);

impl Lease {
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, AcqRel) == RETIRED | 1 {
            // Nobody hears it when the ingress itself is gone.
            let _ = self.0.drained.send(self.0.worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn upstream() -> (Arc<Upstream>, UnboundedReceiver<WorkerId>) {
        let (drained, heard) = unbounded_channel();
        let target = HttpTarget {
            worker: WorkerId { slot: 1, generation: 2 },
            module: ModuleName::new("m").unwrap(),
            version: semver::Version::new(1, 0, 0),
            weight: 1,
            version_weight: 1,
            socket: "/nowhere".into(),
            reach: HttpReach::Direct,
        };
        (Arc::new(Upstream::new(&target, &Limits::default(), drained)), heard)
    }

    fn enter(upstream: &Arc<Upstream>) -> Lease {
        match upstream.enter(100) {
            Entered::Lease(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_lease_of_a_retired_worker_tells_and_only_once() {
        let (upstream, mut heard) = upstream();
        let (a, b) = (enter(&upstream), enter(&upstream));
        assert_eq!(upstream.retire(), Retired::Busy);
        assert!(matches!(upstream.enter(100), Entered::Retired));
        drop(a);
        assert!(heard.try_recv().is_err());
        drop(b);
        assert_eq!(heard.try_recv(), Ok(WorkerId { slot: 1, generation: 2 }));
        assert!(heard.try_recv().is_err());
        assert_eq!(upstream.revive(), Revived::TooLate);
    }

    #[test]
    fn an_idle_worker_is_told_by_who_retires_it() {
        let (upstream, mut heard) = upstream();
        drop(enter(&upstream));
        assert_eq!(upstream.retire(), Retired::Idle);
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_worker_that_comes_back_in_time_has_not_ended() {
        let (upstream, mut heard) = upstream();
        let lease = enter(&upstream);
        assert_eq!(upstream.retire(), Retired::Busy);
        assert_eq!(upstream.revive(), Revived::Yes);
        drop(lease);
        assert!(heard.try_recv().is_err());
        drop(enter(&upstream));
    }

    #[test]
    fn no_more_enter_than_may() {
        let (upstream, _heard) = upstream();
        let lease = match upstream.enter(1) {
            Entered::Lease(lease) => lease,
            other => panic!("{other:?}"),
        };
        assert!(matches!(upstream.enter(1), Entered::Full));
        drop(lease);
        assert!(matches!(upstream.enter(1), Entered::Lease(_)));
    }

    /// Threads enter and leave while one retires: whoever has entered is counted, and after the end was told nobody is inside.
    #[test]
    fn nobody_is_inside_after_the_end_was_told() {
        for _ in 0..200 {
            let (upstream, mut heard) = upstream();
            let inside = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while let Entered::Lease(lease) = upstream.enter(100) {
                            inside.fetch_add(1, AcqRel);
                            std::hint::spin_loop();
                            inside.fetch_sub(1, AcqRel);
                            drop(lease);
                        }
                    });
                }
                std::thread::yield_now();
                if upstream.retire() == Retired::Busy {
                    assert!(heard.blocking_recv().is_some());
                }
                assert_eq!(inside.load(Acquire), 0);
            });
            assert!(heard.try_recv().is_err());
        }
    }
}
