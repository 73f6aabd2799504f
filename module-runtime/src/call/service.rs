//! What `#[service]` implements: the typed client's and the server's side of a service.

use std::future::Future;

use super::{Caller, Incoming};

/// A typed client, as [`crate::service`] generates it. Made by [`crate::Worker::client`].
pub trait ServiceClient: Sized {
    /// The service's name.
    const SERVICE: &'static str;

    /// The schema's fingerprint, or [`crate::NO_FINGERPRINT`].
    fn fingerprint() -> u64;

    /// A client that calls through `caller`.
    fn new(caller: Caller) -> Self;
}

/// Answers the calls of a service, as [`crate::service`] generates it.
pub trait ServiceServer: Clone + Send + Sync + 'static {
    /// The service's name.
    const SERVICE: &'static str;

    /// The schema's fingerprint, or [`crate::NO_FINGERPRINT`].
    fn fingerprint() -> u64;

    /// Answers one call. It is polled at once, so a call that needs no waiting is answered without a detour.
    fn answer(self, call: Incoming) -> impl Future<Output = ()> + Send + 'static;
}
