//! Named places in which a fault can be asked for, by tests: the process dies there, or what comes next fails.
//!
//! ```text
//!   a test ── "set clone 11" ──▶ RUN/failpoints.sock ──▶ reach(Point::Clone) ── EAGAIN, once ──▶ whoever would have cloned
//! ```
//! Only with the feature `failpoints`, which nothing that is shipped is built with: without it [`reach`] is an `Ok` that the compiler
//! removes, and there is no socket. `docs/operations.md` says for every point and fault what becomes of an operation, and
//! `tests/failpoints` does what is written there.

#[cfg(feature = "failpoints")]
mod armed;
mod points;
#[cfg(feature = "failpoints")]
mod socket;

use std::fmt::Display;
use std::io;

pub(crate) use points::{Point, of_changes, of_message, of_step};
#[cfg(feature = "failpoints")]
pub(crate) use socket::serve;

/// We are at this point.
///
/// # Errors
/// The fault that was asked for.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: Point) -> io::Result<()> {
    armed::reach(point.name())
}

/// The same where it depends on a detail which of several points it is.
///
/// # Errors
/// The fault that was asked for.
#[cfg(feature = "failpoints")]
pub(crate) fn reach_at<D: Display>(point: Point, detail: impl FnOnce() -> D) -> io::Result<()> {
    armed::reach(&format!("{}:{}", point.name(), detail()))
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) const fn reach(_: Point) -> io::Result<()> {
    Ok(())
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn reach_at<D: Display>(_: Point, _: impl FnOnce() -> D) -> io::Result<()> {
    Ok(())
}

/// A point at which nothing can fail: only death can be asked for.
pub(crate) fn pass(point: Point) {
    let _ = reach(point);
}

/// The same with a detail.
pub(crate) fn pass_at<D: Display>(point: Point, detail: impl FnOnce() -> D) {
    let _ = reach_at(point, detail);
}
