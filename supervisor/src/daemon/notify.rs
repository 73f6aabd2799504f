//! What the service manager is told. Nothing happens where there is none.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::engine::Controls;

/// The service manager waits for this much longer than we do.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

/// For one step of the start that has no bound of its own: it goes by the size of what is on the disk.
pub(super) const STEP: Duration = Duration::from_secs(300);

/// Started: the admin API answers, and it is known whether the base serves. A base that does not is no reason to fail the unit:
/// modules that are not reached by HTTP run all the same, and the operator needs the API to see why; the status says so.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is going on, for people.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// What was in force is being replaced; [`ready`] says that it is done. From systemd 253 on the time belongs to it.
pub(super) fn reloading(status: &str) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status(status)]),
        Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
    }
}

/// What keeps the start from being over, and for how long it may: as long as that the service manager is to wait, too.
pub(super) fn starting(status: &str, within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(within), NotifyState::Status(status)]);
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
    beat(patience, || controls.heartbeat(), || tell(&[NotifyState::Watchdog])).await;
}

/// Asks for a sign of life three times within the patience, and tells as often as there is one.
async fn beat<F: Future<Output = ()>>(patience: Duration, sign_of_life: impl Fn() -> F, tell: impl Fn()) {
    let mut beats = tokio::time::interval(patience / 3);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        sign_of_life().await;
        tell();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_not_said_to_live() {
        let (hangs, told) = (Cell::new(false), Cell::new(0));
        let sign_of_life = || async {
            if hangs.get() {
                std::future::pending::<()>().await;
            }
        };
        let beating = beat(Duration::from_secs(30), sign_of_life, || told.set(told.get() + 1));
        tokio::pin!(beating);
        let _ = tokio::time::timeout(Duration::from_secs(91), beating.as_mut()).await;
        assert_eq!(told.get(), 10, "three times in thirty seconds, and at once");
        hangs.set(true);
        let _ = tokio::time::timeout(Duration::from_secs(3600), beating.as_mut()).await;
        assert_eq!(told.get(), 10);
    }
}
