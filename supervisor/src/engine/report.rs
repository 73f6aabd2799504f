//! What reaches the loop beside requests and workers' messages.

use tokio::sync::{mpsc, oneshot, watch};

use super::resources::Loaded;
use super::workers::Begun;
use crate::lifecycle::{Config, Event, ResourceId};

/// The answer of a performer, or a word from the daemon. Their number is bounded by the actions under way.
#[derive(Debug)]
pub(super) enum Report {
    /// For `step`, as it is.
    Event(Event),
    /// A worker was started or found again: it is to be watched.
    Begun(Box<Begun>),
    /// A resource is in its memory.
    Loaded { resource: ResourceId, loaded: Box<Loaded> },
    /// End, and leave everything as it is: a successor takes it over.
    Leave,
    /// Other numbers of the policy.
    Configure(Box<Config>),
    /// Is the loop alive?
    Heartbeat(oneshot::Sender<()>),
}

/// The daemon's hold on the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Controls {
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) settled: watch::Receiver<bool>,
}

impl Controls {
    /// Stops everything in order; the loop then ends.
    pub async fn stop(&self) {
        // A loop that has ended has stopped.
        let _ = self.reports.send(Report::Event(Event::StopAll)).await;
    }

    /// Ends the loop and touches nothing of what runs. What is on its way to the disk gets there.
    pub async fn leave(&self) {
        // A loop that has ended has left.
        let _ = self.reports.send(Report::Leave).await;
    }

    /// Changes the numbers of the policy. Times that run already end as they would have. The uids and the folder are to be what they are:
    /// workers have them.
    pub async fn configure(&self, config: Config) {
        // A loop that has ended needs none.
        let _ = self.reports.send(Report::Configure(Box::new(config))).await;
    }

    /// Returns once the loop has taken a turn. Never returns when it hangs.
    pub async fn heartbeat(&self) {
        let (beat, heard) = oneshot::channel();
        if self.reports.send(Report::Heartbeat(beat)).await.is_ok() {
            let _ = heard.await;
        }
    }

    /// Returns once it is known of every worker of an earlier supervisor whether it is still there.
    pub async fn settled(&self) {
        let _ = self.settled.clone().wait_for(|it| *it).await.map(|it| *it);
    }
}
