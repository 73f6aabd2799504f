//! Calls of one thread in a row.

use std::collections::VecDeque;

use super::hand::{Hand, Request};
use super::{Client, Ticket};
use crate::arena::Loan;
use crate::error::Refused;
use crate::{CallError, CallOptions, Deadline, Payload, Reply};

/// A thread's hold on its end of a channel, for many calls in a row: what a call pays for sharing the end with other threads is
/// paid once, and several calls can be under way with one look at the callee behind them all.
///
/// Other threads and tasks that use the same end meanwhile wait for the next moment in which this thread waits for an answer; so a
/// session is for a thread that has the end to itself, or nearly so. The thread must not use the [`Client`] beside its session: it
/// would wait for itself.
///
/// ```
/// # use shm_rpc::{CallOptions, Client, End, Geometry, Pod, Server};
/// # let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT)?;
/// # let mut server = Server::new(callee);
/// # let control = server.control();
/// # let thread = std::thread::spawn(move || server.serve(|call| { let n: u64 = call.pod().unwrap(); call.reply(Pod(&(n * n))) }));
/// # let client = Client::new(caller);
/// let mut session = client.session();
/// for number in 1..=5_u64 {
///     session.start(1, &CallOptions::NONE, Pod(&number))?;
/// }
/// let mut sum = 0;
/// while let Some(answer) = session.next() {
///     sum += answer?.pod::<u64>()?;
/// }
/// assert_eq!(sum, 55);
/// # drop(session);
/// # control.close();
/// # thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session<'c> {
    hand: Hand<'c>,
    /// The answer that was got last: it is read where it was taken to.
    reply: Reply,
    started: VecDeque<(Ticket, Option<Deadline>)>,
}

impl Client {
    /// Takes hold of this end for many calls in a row.
    #[must_use]
    pub fn session(&self) -> Session<'_> {
        Session { hand: Hand::new(&self.shared), reply: Reply::EMPTY, started: VecDeque::new() }
    }
}

impl<'c> Session<'c> {
    /// Calls `method` and waits for the answer, as [`Client::call`] does. Calls that were started before stay under way. The answer
    /// can be read until the session is used again; a payload in it is the callee's again then.
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn call(&mut self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<&Reply, CallError> {
        let mut request = Request::EMPTY;
        request.encode(self.hand.shared, options, payload)?;
        let ticket = self.hand.start(method, options, &mut request)?;
        Ok(self.wait(ticket, options.deadline)?)
    }

    #[inline(always)]
    fn wait(&mut self, ticket: Ticket, deadline: Option<Deadline>) -> Result<&Reply, Refused> {
        self.reply.release();
        let waited = self.hand.wait(ticket, deadline, &mut self.reply.answer);
        match waited.and_then(|()| self.reply.check(self.hand.shared)) {
            Ok(()) => Ok(&self.reply),
            Err(error) => Err(self.forget_reply(error)),
        }
    }

    /// What lies in the place of the answer is none.
    #[cold]
    fn forget_reply(&mut self, error: Refused) -> Refused {
        self.reply = Reply::EMPTY;
        error
    }

    /// Sends a request; its answer is got by [`Session::next`]. A callee that sleeps is not woken before the session waits or
    /// [flushes](Session::flush).
    ///
    /// # Errors
    /// If it was not sent. Nothing was started then.
    #[inline]
    pub fn start(&mut self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<(), CallError> {
        let mut request = Request::EMPTY;
        request.encode(self.hand.shared, options, payload)?;
        let ticket = self.hand.start(method, options, &mut request)?;
        self.started.push_back((ticket, options.deadline));
        Ok(())
    }

    /// Makes sure that the callee is awake for everything that was started, without waiting.
    pub fn flush(&mut self) {
        self.hand.look_up();
        self.hand.give_way();
    }

    /// Waits for the answer to the oldest call that was started and not asked for yet. None: there is no such call. The answer can
    /// be read as that of [`Session::call`].
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend what it holds")]
    pub fn next(&mut self) -> Option<Result<&Reply, CallError>> {
        let (ticket, deadline) = self.started.pop_front()?;
        self.hand.give_way();
        Some(self.wait(ticket, deadline).map_err(CallError::from))
    }

    /// The answer that was got last, to be kept.
    #[must_use]
    pub fn take_reply(&mut self) -> Reply {
        std::mem::replace(&mut self.reply, Reply::EMPTY)
    }

    /// Calls that were started and not asked for yet.
    #[must_use]
    pub fn started(&self) -> usize {
        self.started.len()
    }

    /// As [`Client::loan`].
    ///
    /// # Errors
    /// As [`Client::loan`].
    #[inline]
    pub fn loan(&self, len: usize) -> Result<Loan<'c>, CallError> {
        Loan::borrowed(&self.hand.shared.port.outbox, len)
    }
}

impl Drop for Session<'_> {
    /// Calls that nobody has asked for are cancelled.
    fn drop(&mut self) {
        for (ticket, _) in self.started.drain(..) {
            let port = &self.hand.shared.port;
            let calls = self.hand.calls();
            calls.drain(port);
            let (_, wake) = calls.abandon(port, ticket);
            port.wake(wake);
        }
    }
}
