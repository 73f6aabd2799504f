//! Calls between two processes through shared memory, at the price of two cache lines, against a peer that may lie.
//!
//! A **channel** joins one caller process and one callee process. It is two **segments** of memory, one written by each and
//! mapped read-only by the other, and a **wake socket** pair. A third party makes and seals them and maps nothing itself.
//!
//! ```text
//!        caller process                                     callee process
//!   ┌──────────────────────┐                          ┌──────────────────────┐
//!   │ Client::call         │   caller's segment       │                      │
//!   │   Payload ──write──▶ │ ═ control ring arena ══▶ │ Server::serve(|call| │
//!   │                      │                          │   call.body().pod()  │
//!   │   Reply ◀────view─── │ ◀══ control ring arena ═ │   call.reply(…))     │
//!   └──────────────────────┘   callee's segment       └──────────────────────┘
//!              ╰──────────────── wake socket ────────────────╯
//! ```
//!
//! The way through the files: [`segment`] makes memory, `mapped` maps it, `memory` is all that touches it, `layout` says what lies
//! where; `message` is a slot's content, `ring` moves slots, `control` is what the two sides tell each other beside; `arena` and
//! `payload` are the way in, `view` the way out; `blob` has what is too large to be copied and must not change; `stream` packs many messages into one call; `client` and `server` are the two ends. `LAYOUT.md` has the whole protocol.
//!
//! ```
//! use shm_rpc::{CallOptions, Client, Encoded, Encoding::Positional, End, Geometry, Server};
//!
//! let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT)?;
//! let mut server = Server::new(callee);
//! let stop = server.control();
//! let thread = std::thread::spawn(move || {
//!     server.serve(|call| {
//!         let number: u32 = match call.decode() {
//!             Ok(number) => number,
//!             Err(error) => return call.fail(&error),
//!         };
//!         call.reply(Encoded(Positional, &(number + 1)));
//!     })
//! });
//! let client = Client::new(caller);
//! let reply = client.call(7, &CallOptions::NONE, Encoded(Positional, &41_u32))?;
//! assert_eq!(reply.decode::<u32, ()>()?, Ok(42));
//! stop.close();
//! assert_eq!(thread.join().unwrap()?.served, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]
#![cfg_attr(loom, allow(dead_code, reason = "loom runs the ring alone"))]

// Ring, control page and what a slot holds: the same under loom, over a memory of its own.
mod clock;
mod control;
mod error;
mod filled;
mod geometry;
mod layout;
#[cfg_attr(loom, path = "memory_loom.rs")]
mod memory;
mod message;
mod options;
mod ring;
mod sync;

#[cfg(all(loom, test))]
mod models;

#[cfg(not(loom))]
mod arena;
#[cfg(all(feature = "tokio", not(loom)))]
mod bell;
#[cfg(not(loom))]
mod blob;
#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
mod futex;
#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub mod hostile;
#[cfg(not(loom))]
mod mapped;
#[cfg(not(loom))]
mod payload;
#[cfg(not(loom))]
mod port;
#[cfg(not(loom))]
mod release;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
mod server;
#[cfg(not(loom))]
mod spin;
#[cfg(not(loom))]
mod stream;
#[cfg(not(loom))]
mod view;
#[cfg(not(loom))]
mod wire_error;

#[cfg(not(loom))]
pub use arena::Loan;
#[cfg(not(loom))]
pub use blob::{Blob, BlobDraft, Frozen};
#[cfg(not(loom))]
pub use client::{Client, Pending, Reply, Session};
pub use clock::Deadline;
pub use error::{CallError, Started, Violation};
pub use geometry::{Geometry, GeometryError};
#[cfg(not(loom))]
pub use mapped::{End, OwnSegment, PeerSegment, SegmentError};
pub use options::{CallOptions, Tags, Trace};
#[cfg(not(loom))]
pub use payload::{Encoded, Encoding, Payload, Pod, With, Writer};
#[cfg(not(loom))]
pub use release::Released;
#[cfg(not(loom))]
pub use server::{Call, Ended, Serve, ServeError, Served, Server, ServerControl, ServerSet, SetControl};
#[cfg(not(loom))]
pub use spin::Patience;
#[cfg(not(loom))]
pub use stream::Stream;
#[cfg(not(loom))]
pub use view::{DecodeError, View};

/// What a full queue suggests to wait. It empties within microseconds when the peer is well; longer waits belong to policy.
#[cfg(not(loom))]
pub(crate) const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(1);
