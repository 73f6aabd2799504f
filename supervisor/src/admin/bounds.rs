//! What a client may cost.

use std::time::Duration;

/// Connections of callers with a role at the same time. Followers of streams hold one each.
pub const CONNECTIONS: usize = 256;

/// Connections of callers without a role, which only get to hear that they have none.
pub const STRANGERS: usize = 8;

/// How long a client may take for its request line and headers, and how long an idle connection is kept.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Request line and headers together.
pub const HEADERS_BYTES: usize = 16 * 1024;

/// How many headers.
pub const HEADERS: usize = 64;

/// A JSON body: the largest request is a tenant's routes.
pub const BODY_BYTES: usize = 64 * 1024;

/// The body of a call.
pub const CALL_BYTES: usize = 8 << 20;

/// How long an ordinary request may take, reading its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that a client may ask to wait for an operation in one request. It can ask again.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest deadline of a call.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Packages that may arrive at the same time: each has a thread that unpacks it.
pub const UPLOADS: usize = 4;

/// The longest silence in the middle of a package.
pub const UPLOAD_SILENCE: Duration = Duration::from_secs(30);

/// How long a package may take to arrive.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Log lines that can be asked for at once: what is kept per module.
pub const TAIL_MAX: usize = 2000;

/// How long open requests may go on after the server was told to stop.
pub const STOP_GRACE: Duration = Duration::from_secs(2);
