//! How an ingress ends: first no new connections and one last request on each, then nothing more.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has not begun.
    Open,
    /// Every answer closes its connection.
    LastRequests,
    /// Connections without a request are closed, upgraded ones too.
    Over,
}

/// Somebody's view of the end. Also counts who is still there: the end is complete when all views are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Ending(watch::Receiver<Phase>);

/// Brings the end about.
#[derive(Debug)]
pub(crate) struct Ender(watch::Sender<Phase>);

impl Ender {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Open))
    }

    pub(crate) fn view(&self) -> Ending {
        Ending(self.0.subscribe())
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = *now < phase;
            *now = phase.max(*now);
            later
        });
    }

    /// Waits until nobody has a view any more.
    pub(crate) async fn complete(&self) {
        self.0.closed().await;
    }
}

impl Ending {
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits for [`Phase::LastRequests`].
    pub(crate) async fn begun(&self) {
        self.reached(Phase::LastRequests).await;
    }

    /// Waits for [`Phase::Over`].
    pub(crate) async fn over(&self) {
        self.reached(Phase::Over).await;
    }

    async fn reached(&self, phase: Phase) {
        // An ender that is gone ends nothing in an orderly way: whoever waits is dropped with the runtime.
        if self.0.clone().wait_for(|it| *it >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
