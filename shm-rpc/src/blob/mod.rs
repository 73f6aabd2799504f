//! Blobs: bytes that nobody can change any more, so that whoever gets one may hold a reference into it.
//!
//! ```text
//!   BlobDraft ── filled ──▶ freeze ──▶ Blob ── a message names it, its descriptor goes beside ──▶ Frozen: &[u8]
//!   one writer              seals      any number of messages, of any channels                    as long as the receiver likes
//! ```
//! A payload in an arena is the sender's to write at any time, so its receiver copies what it reads. A blob is a memfd of its own that
//! is sealed against writing before it is shown to anybody: it costs a few system calls and a descriptor, and is then read in place.
//! `carriage` brings descriptors over, and `memory` maps them.

mod carriage;
mod memory;

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::MmapMut;

use crate::message::BLOB_MAX;
use crate::sync::Arc;
#[cfg(test)]
pub(crate) use carriage::send_with;
pub(crate) use carriage::{Carriage, Rings};
pub use memory::Frozen;

/// A blob that is being written: a slice of zeros, to be filled.
pub struct BlobDraft {
    pub(crate) fd: OwnedFd,
    /// None: it has no bytes.
    map: Option<MmapMut>,
}

impl BlobDraft {
    /// Memory for `len` bytes, all of it charged to this process now: a blob has no holes.
    ///
    /// # Errors
    /// What the kernel answers: no memory, no descriptor. `InvalidInput` beyond [`Blob::MAX_LEN`].
    pub fn new(len: usize) -> io::Result<Self> {
        let (fd, map) = memory::draft(len)?;
        Ok(Self { fd, map })
    }

    /// Ends the writing for good, here and everywhere.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn freeze(self) -> io::Result<Blob> {
        let Self { fd, map } = self;
        let len = map.as_ref().map_or(0, |it| it.len());
        // The seal is refused as long as anybody, here or elsewhere, has it mapped for writing.
        drop(map);
        memory::seal(&fd)?;
        let frozen = Frozen::map(&fd, len).map_err(io::Error::other)?;
        Ok(Blob(Arc::new((fd, frozen))))
    }
}

impl Deref for BlobDraft {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

impl DerefMut for BlobDraft {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
}

impl fmt::Debug for BlobDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobDraft({} bytes)", self.len())
    }
}

/// Bytes that nobody can change, to be sent: `&Blob` is a [`crate::Payload`]. Clones are the same bytes; one blob can be the message of
/// any number of calls and answers over any number of channels, and is in memory once.
///
/// Its memory is charged to the process that made it, until the last process that has it lets go of it.
///
/// ```
/// # use shm_rpc::{Blob, CallOptions, Client, End, Geometry, Server};
/// # let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT)?;
/// # let mut server = Server::new(callee);
/// # let control = server.control();
/// # let thread = std::thread::spawn(move || server.serve(|call| {
/// // The callee keeps it beyond the call, without a copy.
/// let kept = call.view().frozen().expect("a blob").clone();
/// call.reply(());
/// assert!(kept.starts_with(b"Once"));
/// # }));
/// # let client = Client::new(caller);
/// let story = Blob::copy_of(b"Once upon a time")?;
/// client.call(1, &CallOptions::NONE, &story)?;
/// # control.close();
/// # thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Blob(Arc<(OwnedFd, Frozen)>);

impl Blob {
    /// The longest blob, in bytes.
    pub const MAX_LEN: usize = BLOB_MAX as usize;

    /// A blob of these bytes.
    ///
    /// # Errors
    /// As [`BlobDraft::new`].
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut draft = BlobDraft::new(bytes.len())?;
        draft.copy_from_slice(bytes);
        draft.freeze()
    }

    /// The same bytes, as whoever gets it has them.
    #[must_use]
    pub fn frozen(&self) -> &Frozen {
        &self.0.1
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.1
    }
}

/// The sealed memfd, to be given to others who know what to make of one.
impl AsFd for Blob {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}
