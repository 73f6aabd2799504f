//! The numbers of the ingress, in one place.

use std::time::Duration;

/// How much the ingress takes on, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once. Beyond it the kernel's queue fills and nothing is accepted.
    pub connections: usize,
    /// Requests in flight at once; beyond it 503 at once.
    pub in_flight: usize,
    /// Requests in flight to one worker; beyond it another worker is chosen, and 503 if there is none.
    pub in_flight_per_worker: u32,
    /// Bytes of a request's line and headers; beyond it 431.
    pub head_bytes: usize,
    /// Headers of a request; beyond it 431.
    pub headers: usize,
    /// Bytes of a request's body; beyond it 413.
    pub body_bytes: u64,
    /// From the first byte of a request's head to its last; beyond it 408.
    pub head_time: Duration,
    /// How long a connection may be without a request.
    pub idle_time: Duration,
    /// How long a body may stand still, in either direction and on either side of the base. A connection that was upgraded may
    /// be silent for as long as it likes.
    pub stall_time: Duration,
    /// From a request's head to the head of its answer, retries included; beyond it 504. A request may ask for less by
    /// `X-Deadline-Ms`. The bodies of answers are bounded by `stall_time` alone, so that a long download or a stream of events
    /// may take its time.
    pub request_time: Duration,
    /// How long a request waits for new routes when every worker of its route has refused the connection: one that died is
    /// still in the routes for a moment. Beyond it 503.
    pub gap_time: Duration,
    /// How long a connection to a worker may be idle before the base closes it. Shorter than the idle time of the usual HTTP
    /// servers, so that it is the base that ends it.
    pub pool_time: Duration,
    /// Idle connections kept to one worker.
    pub pool_size: usize,
    /// While the base drains: how long an idle connection may still send the request that is answered with
    /// `Connection: close`.
    pub linger_time: Duration,
    /// What of `X-Forwarded-*` and `Forwarded` is believed.
    pub forwarded: Forwarded,
}

/// What is done with the `X-Forwarded-*` headers that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// They are replaced: the base faces the clients itself.
    Replace,
    /// They are kept and the peer is appended: a proxy that can be trusted stands before the base, and nobody else
    /// reaches it.
    Append,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            in_flight: 2048,
            in_flight_per_worker: 512,
            head_bytes: 32 << 10,
            headers: 100,
            body_bytes: 256 << 20,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(60),
            request_time: Duration::from_secs(60),
            gap_time: Duration::from_secs(2),
            pool_time: Duration::from_secs(4),
            pool_size: 64,
            linger_time: Duration::from_secs(2),
            forwarded: Forwarded::Replace,
        }
    }
}
