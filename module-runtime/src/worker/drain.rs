//! Draining: what is in flight ends, nothing new is accepted.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_control::{ChannelId, Phase, ToSupervisor};

use super::channels::Channel;
use super::shared::Shared;

/// What the author wants to be done when nothing is in flight any more.
pub(crate) struct BeforeDrained(Pin<Box<dyn Future<Output = ()> + Send>>);

impl BeforeDrained {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl fmt::Debug for BeforeDrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BeforeDrained")
    }
}

/// Begins to drain, unless that has begun before.
pub(crate) fn begin(shared: &Arc<Shared>) {
    let begun = shared.phase.send_if_modified(|phase| match phase {
        Phase::Starting | Phase::Ready => {
            *phase = Phase::Draining;
            true
        }
        Phase::Draining | Phase::Drained => false,
    });
    if !begun {
        return;
    }
    for channel in shared.state().channels.values() {
        if let Channel::Callee(control, _) = channel {
            control.close();
        }
    }
    shared.close_own();
    tokio::spawn(finish(Arc::clone(shared)));
}

async fn finish(shared: Arc<Shared>) {
    shared.busy.idle().await;
    let before = std::mem::take(&mut shared.state().before_drained);
    for it in before {
        it.0.await;
    }
    shared.phase.send_replace(Phase::Drained);
    shared.reports.send(ToSupervisor::Drained { served: shared.served.load(Relaxed) });
}

/// A callee's channel has come into the table. While the worker drains it is closed at once (it had been attached before); a
/// drained worker that gets callers again is wanted back: a rollback.
pub(crate) fn newcomer(shared: &Shared, channel: ChannelId) {
    if *shared.phase.borrow() == Phase::Draining
        && let Some(Channel::Callee(control, _)) = shared.state().channels.get(&channel)
    {
        control.close();
    }
    shared.phase.send_if_modified(|phase| {
        let back = *phase == Phase::Drained;
        if back {
            *phase = Phase::Ready;
        }
        back
    });
}

/// Resolves when nothing is in flight.
pub(crate) async fn drained(shared: &Shared) {
    // The sender is in `shared`: the channel cannot be closed.
    let _ = shared.phase.subscribe().wait_for(|phase| *phase == Phase::Drained).await;
}
