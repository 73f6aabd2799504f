//! What the service manager is told. Nothing happens where there is none.

use sd_notify::NotifyState;

use crate::engine::Controls;

/// Started: what was promised by the unit can be relied on.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is going on, for people.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// On the way out.
pub(super) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Tells the service manager's watchdog that the loop turns, as long as it does. Without a watchdog it never returns.
pub(super) async fn watchdog(controls: Controls) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut beats = tokio::time::interval(patience / 3);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        controls.heartbeat().await;
        tell(&[NotifyState::Watchdog]);
    }
}
