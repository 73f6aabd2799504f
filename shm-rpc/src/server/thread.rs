//! Serving in a plain thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::intake::Next;
use super::{Call, Ended, Served, Server};
use crate::control::FUTEX;
use crate::spin::{Spin, Turn};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::{Violation, clock};

/// What the ring has after everything that was there has been served.
#[cfg(any(test, fuzzing))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing now.
    Empty,
    /// Nothing any more.
    Over,
}

impl Server {
    /// Serves in this thread until the channel ends. A call that `handler` answers before it returns costs no share in the
    /// server; one that shall be answered later is [detached](Call::detach). A handler that panics has answered `Internal`.
    ///
    /// # Errors
    /// What the caller wrote that no honest one writes.
    pub fn serve(&mut self, mut handler: impl FnMut(Call<'_>)) -> Result<Served, Violation> {
        loop {
            // One guard around many calls: around each, it would keep the handler from being one piece with the loop. The panic hook
            // has reported a panic, and the call has answered as it was dropped.
            match catch_unwind(AssertUnwindSafe(|| self.serve_until_unwound(&mut handler))) {
                Ok(served) => return served,
                Err(_) => self.intake.forget_context(),
            }
        }
    }

    #[inline(always)]
    fn serve_until_unwound(&mut self, handler: &mut impl FnMut(Call<'_>)) -> Result<Served, Violation> {
        loop {
            match self.take_next(handler)? {
                Next::Call | Next::PassedOver => {}
                Next::Over => return Ok(self.drained()),
                Next::Empty if self.shared.stop.is_gone() => return Ok(self.ended(Ended::CallerGone)),
                Next::Empty => self.wait()?,
            }
        }
    }

    /// Serves what is there now, without waiting.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn take_now(&mut self, mut handler: impl FnMut(Call<'_>)) -> Result<Left, Violation> {
        loop {
            match self.take_one(&mut handler)? {
                Next::Call | Next::PassedOver => {}
                Next::Over => return Ok(Left::Over),
                Next::Empty => return Ok(Left::Empty),
            }
        }
    }

    /// Serves one call, if there is one now.
    #[inline(always)]
    pub(super) fn take_one(&mut self, handler: &mut impl FnMut(Call<'_>)) -> Result<Next, Violation> {
        // The panic hook has reported it, and the call has answered as it was dropped.
        catch_unwind(AssertUnwindSafe(|| self.take_next(handler))).unwrap_or_else(|_| {
            self.intake.forget_context();
            Ok(Next::Call)
        })
    }

    /// Serves one call, if there is one now. Unwinds if `handler` does.
    #[inline(always)]
    fn take_next(&mut self, handler: &mut impl FnMut(Call<'_>)) -> Result<Next, Violation> {
        let next = self.intake.next(&self.shared, &mut self.home)?;
        if let Next::Call = next {
            handler(Call::new(self));
            self.intake.forget_context();
        }
        Ok(next)
    }

    /// Waits for a request, or for a wish to end.
    #[inline(always)]
    fn wait(&mut self) -> Result<(), Violation> {
        let port = &self.shared.port;
        let (offset, empty) = self.intake.next_slot();
        // Now, while there is time: what comes next is waited for.
        let before = clock::coarse();
        let mut spin = Spin::new(&self.learned, &port.outbox.memory, &port.peer.memory, None);
        loop {
            if port.peer.memory.load(offset, Acquire) as u32 != empty || self.shared.stop.is_wanted() {
                spin.found();
                self.intake.note_time(spin.last_look().unwrap_or(before));
                return Ok(());
            }
            match spin.turn() {
                Turn::Again => {}
                Turn::Sleep => break,
            }
        }
        self.sleep(offset, empty)
    }

    #[cold]
    fn sleep(&mut self, offset: usize, empty: u32) -> Result<(), Violation> {
        if self.intake.arm(&self.shared, FUTEX)? {
            self.shared.stop.falls_asleep(offset);
            if !self.shared.stop.is_wanted() {
                self.shared.port.peer.memory.wait(offset, empty, None);
            }
            self.shared.stop.wakes_up();
            self.intake.parked.clear(&self.shared.port.outbox.memory, FUTEX);
        }
        Ok(())
    }

    /// Waits until every call that was taken is answered, by whichever thread has it.
    fn drained(&self) -> Served {
        let shared = &self.shared;
        shared.stop.begin_drain();
        shared.stop.wait_drained(|| shared.in_flight() == 0 || shared.stop.is_gone());
        self.ended(self.why_over())
    }

    pub(super) fn why_over(&self) -> Ended {
        if self.shared.in_flight() > 0 {
            Ended::CallerGone
        } else if self.intake.caller_is_done() {
            Ended::CallerDone
        } else {
            Ended::Closed
        }
    }

    pub(super) fn ended(&self, ended: Ended) -> Served {
        Served { served: self.shared.answered.load(Relaxed), ended }
    }
}
