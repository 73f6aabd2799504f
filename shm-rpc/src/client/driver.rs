//! The task that listens to the bell for all tasks that wait: as long as it runs, no answer depends on some waiting task
//! being polled in time.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError, Weak};

use tokio::task::AbortHandle;

use super::Shared;
use crate::CallError;
use crate::bell::Bell;
use crate::control::SOCKET;
use crate::port::Heard;
use crate::sync::Arc;

/// The driver of an end, once a task has waited.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<AbortHandle>>);

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(handle) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            handle.abort();
        }
    }
}

impl Shared {
    /// Starts the driver if there is none, or if the one that there was has ended with its runtime.
    pub(super) fn ensure_driver(shared: &Arc<Self>) -> Result<(), CallError> {
        let mut slot = shared.driver.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|it| !it.is_finished()) {
            return Ok(());
        }
        let bell = Bell::new(&shared.port);
        let bell = bell.map_err(|error| CallError::Internal(format!("no descriptor for the bell: {error}")))?;
        *slot = Some(tokio::spawn(drive(Arc::downgrade(shared), bell)).abort_handle());
        Ok(())
    }

    /// The bell has rung, or may have.
    fn heard(&self, heard: Heard) {
        let mut calls = self.lock();
        calls.parked.clear(&self.port.outbox.memory, SOCKET);
        match heard {
            Heard::Quiet | Heard::More => calls.drain(&self.port),
            Heard::PeerGone => calls.peer_gone(&self.port),
        }
        self.arm_bell(&mut calls);
        self.unlock(calls);
    }
}

async fn drive(shared: Weak<Shared>, bell: Bell) {
    loop {
        let heard = poll_fn(|cx| bell.poll_heard(cx)).await;
        let (Ok(heard), Some(shared)) = (heard, shared.upgrade()) else { return };
        shared.heard(heard);
        if heard == Heard::PeerGone {
            return;
        }
    }
}
