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
//! `payload` are the way in, `view` the way out; `client` and `server` are the two ends. `LAYOUT.md` has the whole protocol.
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

mod arena;
#[cfg(feature = "tokio")]
mod bell;
mod client;
mod clock;
mod control;
mod error;
mod futex;
mod geometry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod hostile;
mod layout;
mod mapped;
mod memory;
mod message;
mod options;
mod payload;
mod port;
mod release;
mod ring;
pub mod segment;
mod server;
mod spin;
mod sync;
mod view;
mod wire_error;

use std::time::Duration;

pub use arena::Loan;
pub use client::{Client, Pending, Reply};
pub use clock::Deadline;
pub use error::{CallError, Started, Violation};
pub use geometry::{Geometry, GeometryError};
pub use mapped::{End, OwnSegment, PeerSegment, SegmentError};
pub use options::{CallOptions, Tags, Trace};
pub use payload::{Encoded, Encoding, Payload, Pod, With, Writer};
pub use release::Released;
#[cfg(feature = "tokio")]
pub use server::ServeError;
pub use server::{Call, Ended, Served, Server, ServerControl};
pub use spin::Patience;
pub use view::{DecodeError, View};

/// What a full queue suggests to wait. It empties within microseconds when the peer is well; longer waits belong to policy.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(1);
