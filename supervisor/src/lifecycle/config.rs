//! The numbers of the policy, in one place.

use std::path::PathBuf;
use std::time::Duration;

use mortise_control::Geometry;

/// What the operator (or a test) may set. Durations that belong to one module are in its `ModuleSpec`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The uid of slot 0; slot n runs as `first_uid + n`.
    pub first_uid: u32,
    /// The folder of the workers' HTTP sockets, `SLOT.GEN.sock`, as the base sees it.
    pub http_folder: PathBuf,
    /// Sizes of a caller's segment.
    pub caller_geometry: Geometry,
    /// Sizes of a callee's segment.
    pub callee_geometry: Geometry,
    /// The pause before a resource is loaded again; doubled for each further failure. (The workers' own pauses are in their
    /// `ModuleSpec`.)
    pub backoff_first: Duration,
    /// The longest of these pauses.
    pub backoff_most: Duration,
    /// How long `Mapped` may take.
    pub map_within: Duration,
    /// How long `RoutesApplied` may take. Then a caller's routes are taken as ignored (its callees close), and a base that
    /// was to withdraw a route is killed (nothing else keeps it from sending requests).
    pub apply_within: Duration,
    /// How long a caller may take to release a channel whose callee is gone.
    pub caller_release_within: Duration,
    /// How long a superseded worker keeps its routes while its successor's channels are not open.
    pub flip_within: Duration,
    /// How long a worker may be without its control connection.
    pub reconnect_within: Duration,
    /// How long a receipt waits for peers to let go of what they map.
    pub receipt_within: Duration,
    /// Between two tries of what the host refused (a channel, the removal of a group, a commit).
    pub retry_after: Duration,
    /// Ended operations that are remembered, for the same answer to the same operation id.
    pub remembered_operations: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first_uid: 200_000,
            http_folder: PathBuf::from("/run/mortise/http"),
            caller_geometry: Geometry { slots: 256, arena: 4 << 20 },
            callee_geometry: Geometry { slots: 256, arena: 4 << 20 },
            backoff_first: Duration::from_millis(100),
            backoff_most: Duration::from_secs(10),
            map_within: Duration::from_secs(5),
            apply_within: Duration::from_secs(5),
            caller_release_within: Duration::from_secs(30),
            flip_within: Duration::from_secs(10),
            reconnect_within: Duration::from_secs(5),
            receipt_within: Duration::from_secs(2),
            retry_after: Duration::from_millis(250),
            remembered_operations: 256,
        }
    }
}
