//! One-way messages of one plain-old-data type: many to a call.
//!
//! ```text
//!   send send send … ──▶ a block of the own arena ── one call ──▶ read where it lies, message by message
//!                                 ▲                                   │
//!                                 └────────── its answer ─────────────┘
//! ```
//!
//! A batch is written in place and travels as the payload of one call, so a message costs the lines that it fills and a small part
//! of a slot; and it is a call in all other respects: its answer gives the block back and says that the batch was taken, its fate
//! is known when the receiver dies or closes, and a receiver that is slow slows the sender down.

use std::collections::VecDeque;
use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::layout::LINE;
use crate::{Call, CallError, CallOptions, Client, DecodeError, Loan, Pending, View};

/// The bytes of a batch, as long as messages are shorter.
const BATCH: usize = 4096;
/// The batches under way at most.
const WINDOW: usize = 8;

/// The sending end of a stream of messages; made by [`Client::stream`]. Dropped before [`Stream::finish`], it cancels what is under
/// way and loses what was not flushed.
///
/// An error ends the stream: the first [`Stream::taken`] messages were taken, in order; of the later ones the error says whether they
/// may have been ([`CallError::started`]), and every further operation answers it again.
///
/// ```
/// # use shm_rpc::{CallOptions, Client, End, Geometry, Server};
/// # let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT)?;
/// # let (client, mut server) = (Client::new(caller), Server::new(callee));
/// # let control = server.control();
/// let receiver = std::thread::spawn(move || {
///     let mut sum = 0;
///     server.serve(|call| match call.each(|sample: u64| sum += sample) {
///         Ok(_) => call.reply(()),
///         Err(error) => call.fail(&error),
///     })?;
///     Ok::<_, shm_rpc::Violation>(sum)
/// });
/// let mut stream = client.stream::<u64>(1, &CallOptions::NONE);
/// for sample in 1..=1000 {
///     stream.send(&sample)?;
/// }
/// assert_eq!(stream.finish()?, 1000);
/// # control.close();
/// assert_eq!(receiver.join().unwrap()?, 500_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stream<T> {
    client: Client,
    method: u32,
    options: CallOptions,
    /// Messages of a full batch.
    batch: usize,
    /// Where the next message goes; never full.
    loan: Option<Loan<'static>>,
    /// Messages in `loan`.
    filled: usize,
    /// Batches under way, and how many messages each has.
    under_way: VecDeque<(Pending, usize)>,
    taken: u64,
    failed: Option<CallError>,
    messages: PhantomData<fn(T)>,
}

impl Client {
    /// Begins a stream of messages, each batch of which is a call of `method`. Its receiver answers every such call after it has
    /// read it with [`Call::each`]. The options are those of every batch.
    #[must_use]
    pub fn stream<T: IntoBytes + Immutable>(&self, method: u32, options: &CallOptions) -> Stream<T> {
        const { assert!(size_of::<T>() > 0, "messages without bytes cannot be told apart") }
        Stream {
            client: self.clone(),
            method,
            options: *options,
            batch: (BATCH / size_of::<T>()).max(1),
            loan: None,
            filled: 0,
            under_way: VecDeque::with_capacity(WINDOW),
            taken: 0,
            failed: None,
            messages: PhantomData,
        }
    }
}

impl<T: IntoBytes + Immutable> Stream<T> {
    /// Adds a message to the batch, and flushes a batch that is full.
    ///
    /// # Errors
    /// Why an earlier batch has failed, or there is no room for this one.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), CallError> {
        if self.loan.is_none() {
            self.begin()?;
        }
        if let Some(loan) = &mut self.loan {
            let at = self.filled * size_of::<T>();
            loan[at..at + size_of::<T>()].copy_from_slice(message.as_bytes());
        }
        self.filled += 1;
        if self.filled == self.batch { self.flush() } else { Ok(()) }
    }

    /// The places of the batch that are still free, at least one, to be filled from the front; [`Stream::add`] says how many were.
    /// The fastest way for who has many messages at once: they are written where they are read.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn room(&mut self) -> Result<&mut [T], CallError>
    where
        T: FromBytes,
    {
        if self.loan.is_none() {
            self.begin()?;
        }
        let filled = self.filled * size_of::<T>();
        let free = self.loan.as_deref_mut().and_then(|loan| loan.get_mut(filled..)).unwrap_or_default();
        <[T]>::mut_from_bytes(free)
            .map_err(|_| CallError::Invalid("messages that must lie at multiples of more than 64 bytes".into()))
    }

    /// Adds the first `count` messages of the [room](Stream::room) to the batch, and flushes a batch that is full.
    ///
    /// # Errors
    /// Why an earlier batch has failed.
    ///
    /// # Panics
    /// If there was no room for so many.
    pub fn add(&mut self, count: usize) -> Result<(), CallError> {
        let room = if self.loan.is_some() { self.batch - self.filled } else { 0 };
        assert!(count <= room, "{count} messages added where there was room for {room}");
        self.filled += count;
        if self.filled == self.batch && count > 0 { self.flush() } else { Ok(()) }
    }

    /// Sends the messages that have been added. It waits only while as many batches as may be are under way.
    ///
    /// # Errors
    /// Why an earlier batch has failed, or this one was not sent.
    pub fn flush(&mut self) -> Result<(), CallError> {
        self.try_flush().map_err(|error| self.fail(error))
    }

    /// Sends what is left, waits until everything was taken, and tells how many messages that were.
    ///
    /// # Errors
    /// Why a batch has failed.
    pub fn finish(mut self) -> Result<u64, CallError> {
        self.flush()?;
        while self.acknowledge()? {}
        Ok(self.taken)
    }

    /// How many messages are known to have been taken.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Makes room for a batch.
    #[cold]
    fn begin(&mut self) -> Result<(), CallError> {
        let loan = self.make_room().map_err(|error| self.fail(error))?;
        self.loan = Some(loan);
        Ok(())
    }

    fn make_room(&mut self) -> Result<Loan<'static>, CallError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            match self.client.loan(self.batch * size_of::<T>()) {
                // Blocks come back with the answers of earlier batches.
                Err(CallError::Overloaded { .. }) if self.acknowledge()? => {}
                loan => return loan,
            }
        }
    }

    fn try_flush(&mut self) -> Result<(), CallError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(mut loan) = self.loan.take() else { return Ok(()) };
        if self.under_way.len() == WINDOW {
            self.acknowledge()?;
        }
        let messages = std::mem::take(&mut self.filled);
        loan.truncate(messages * size_of::<T>());
        self.under_way.push_back((self.client.start(self.method, &self.options, loan)?, messages));
        Ok(())
    }

    /// Waits for the answer of the oldest batch. False: there is none.
    fn acknowledge(&mut self) -> Result<bool, CallError> {
        let Some((pending, messages)) = self.under_way.pop_front() else { return Ok(false) };
        pending.wait()?;
        self.taken += messages as u64;
        Ok(true)
    }

    #[cold]
    fn fail(&mut self, error: CallError) -> CallError {
        self.loan = None;
        self.filled = 0;
        self.under_way.clear();
        self.failed = Some(error.clone());
        error
    }
}

impl View<'_> {
    /// Reads a batch of plain-old-data messages, each into private memory and once, and tells how many there were.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if it is no whole number of them; none is read then.
    #[inline(always)]
    pub fn each<T: FromBytes>(&self, mut read: impl FnMut(T)) -> Result<usize, DecodeError> {
        let size = const { size_of::<T>() };
        if size == 0 || !self.len().is_multiple_of(size) {
            return Err(DecodeError::Length { found: self.len(), expected: size });
        }
        let count = self.len() / size;
        if size == LINE {
            self.fold((), |(), block| {
                if let Ok(message) = T::read_from_bytes(block.as_bytes()) {
                    read(message);
                }
            });
            return Ok(count);
        }
        let mut messages = Messages { begun: Vec::new(), left: count, messages: PhantomData };
        self.fold((), |(), block| messages.add(block.as_bytes(), &mut read));
        Ok(count)
    }
}

impl Call<'_> {
    /// Reads a batch of messages that a [`Stream`] has sent, each once, and tells how many there were.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`], if it is no whole number of them; none is read then.
    #[inline(always)]
    pub fn each<T: FromBytes>(&self, read: impl FnMut(T)) -> Result<usize, CallError> {
        self.view().each(read).map_err(|error| CallError::Invalid(error.to_string()))
    }
}

/// Messages as they are put together from blocks.
struct Messages<T> {
    /// The part of one that lay at the end of the last block.
    begun: Vec<u8>,
    /// How many are still to come: the last block is filled up with zeros.
    left: usize,
    messages: PhantomData<fn() -> T>,
}

impl<T: FromBytes> Messages<T> {
    #[inline(always)]
    fn add(&mut self, mut block: &[u8], read: &mut impl FnMut(T)) {
        if !self.begun.is_empty() {
            let missing = (size_of::<T>() - self.begun.len()).min(block.len());
            self.begun.extend_from_slice(&block[..missing]);
            block = &block[missing..];
            let Ok(message) = T::read_from_bytes(&self.begun) else { return };
            self.begun.clear();
            self.left -= 1;
            read(message);
        }
        while self.left > 0
            && let Ok((message, rest)) = T::read_from_prefix(block)
        {
            self.left -= 1;
            block = rest;
            read(message);
        }
        if self.left > 0 && !block.is_empty() {
            self.begun.extend_from_slice(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Deadline, End, Geometry, Server, Violation};

    type Served = std::thread::JoinHandle<Result<Vec<u8>, Violation>>;

    fn receive<T: FromBytes + IntoBytes + Immutable>() -> (Client, crate::ServerControl, Served) {
        let geometry = Geometry::new(64, 32 * 1024).unwrap();
        let (caller, callee) = End::pair(geometry, geometry).unwrap();
        let mut server = Server::new(callee);
        let control = server.control();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            server.serve(|call| match call.each(|message: T| seen.extend_from_slice(message.as_bytes())) {
                Ok(_) => call.reply(()),
                Err(error) => call.fail(&error),
            })?;
            Ok(seen)
        });
        (Client::new(caller), control, thread)
    }

    fn options() -> CallOptions {
        CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)))
    }

    fn all_arrive<const N: usize>(count: usize)
    where
        [u8; N]: FromBytes + IntoBytes + Immutable,
    {
        let (client, control, thread) = receive::<[u8; N]>();
        let mut stream = client.stream::<[u8; N]>(3, &options());
        let mut sent = Vec::new();
        for index in 0..count {
            let message: [u8; N] = std::array::from_fn(|at| (index * 31 + at) as u8);
            sent.extend_from_slice(&message);
            if index % 5 == 0 {
                stream.room().unwrap()[0] = message;
                stream.add(1).unwrap();
            } else {
                stream.send(&message).unwrap();
            }
            if index % 1000 == 17 {
                stream.flush().unwrap();
            }
        }
        assert_eq!(stream.finish(), Ok(count as u64));
        control.close();
        assert!(thread.join().unwrap().unwrap() == sent, "{N} bytes");
    }

    #[test]
    fn messages_of_every_size_arrive_once_and_in_order() {
        all_arrive::<1>(10_000);
        all_arrive::<8>(10_000);
        all_arrive::<24>(10_000);
        all_arrive::<64>(10_000);
        all_arrive::<100>(3_000);
        all_arrive::<192>(3_000);
        all_arrive::<5000>(100);
    }

    #[test]
    fn what_is_no_whole_number_of_messages_is_refused() {
        let (client, control, thread) = receive::<[u8; 24]>();
        let error = client.call(0, &options(), &[0; 25][..]).unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{error}");
        control.close();
        assert_eq!(thread.join().unwrap().unwrap(), []);
    }

    #[test]
    fn a_stream_that_is_closed_knows_what_was_taken() {
        let (client, control, thread) = receive::<[u8; 64]>();
        let mut stream = client.stream::<[u8; 64]>(0, &options());
        let mut sent = 0_u64;
        let error = loop {
            match stream.send(&[7; 64]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            if sent == 10_000 {
                control.close();
            }
        };
        assert_eq!(error, CallError::Draining);
        let taken = stream.taken();
        assert_eq!(stream.flush(), Err(CallError::Draining));
        assert_eq!(stream.finish(), Err(CallError::Draining));
        let seen = thread.join().unwrap().unwrap().len() as u64 / 64;
        // What lay in the ring before the close was served, and its answers need not have been looked at yet.
        assert!(taken <= seen && seen <= sent && seen.is_multiple_of(64), "{taken} {seen} {sent}");
        assert!(seen >= 10_000 - 64 * (WINDOW as u64 + 1), "{seen}");
    }
}
