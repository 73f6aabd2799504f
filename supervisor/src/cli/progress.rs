//! Progress on standard error, for people who wait: nothing where that is not a terminal. A bar goes away when it is dropped.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// How often the sign that something is going on moves.
const TICK: Duration = Duration::from_millis(100);

/// A sign that something is going on, with what.
pub fn spinner(what: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.into()).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(TICK);
    bar
}

/// How much of `total` bytes has gone.
pub fn bytes(total: u64, what: impl Into<String>) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what.into()).with_finish(ProgressFinish::AndClear)
}
