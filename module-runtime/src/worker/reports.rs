//! What goes to the supervisor, in order, whenever it is there.

use mortise_control::ToSupervisor;
use tokio::sync::{mpsc, oneshot};

/// One thing for the control connection to send.
#[derive(Debug)]
pub(crate) enum Report {
    Message(ToSupervisor),
    /// To be answered when everything before it has been sent.
    Flush(oneshot::Sender<()>),
}

/// Where every part of the worker puts what the supervisor must know. Never blocks; each report answers a message of the
/// supervisor's or a step in the worker's life, so there are few.
#[derive(Clone, Debug)]
pub(crate) struct Reports(mpsc::UnboundedSender<Report>);

impl Reports {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, message: ToSupervisor) {
        // In tests there is nobody to report to.
        let _ = self.0.send(Report::Message(message));
    }

    /// Resolves when everything reported so far has been sent, or there is nobody to send it to.
    pub(crate) async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.0.send(Report::Flush(sender)).is_ok() {
            let _ = receiver.await;
        }
    }
}
