//! One channel of a set: its turns, and when it goes to sleep.

use std::os::fd::AsFd;

use super::pace::Pace;
use super::{BUDGET, Serve, Told};
use crate::control::{self, SOCKET};
use crate::port::{Heard, hear};
use crate::server::{Ended, ServeError, Served, Server, intake};

/// A channel and who answers it.
#[derive(Debug)]
pub(super) struct Member<H> {
    server: Server,
    handler: H,
    /// It is in the list of those that get turns.
    is_hot: bool,
    /// Its ring is closed; what was taken is being answered elsewhere.
    is_draining: bool,
    idle: Option<Idle>,
}

/// A hot channel that has nothing to serve.
#[derive(Debug)]
struct Idle {
    /// How long it stays hot.
    budget: u64,
    /// Which look at the clock was the last before this began.
    tick: u32,
    /// The time of the next look.
    since: Option<u64>,
}

/// What becomes of a channel after its turn.
#[derive(Debug)]
#[must_use]
pub(super) enum Next {
    /// It was served, and gets another turn.
    Busy,
    /// It had nothing, and gets another turn.
    Idle,
    /// It gets none until it rings, or until somebody tells something of it.
    Quiet,
    Ended(Result<Served, ServeError>),
}

impl<H: Serve> Member<H> {
    pub(super) fn new(server: Server, handler: H, told: Told) -> Self {
        server.shared.stop.join(told);
        Self { server, handler, is_hot: false, is_draining: false, idle: None }
    }

    pub(super) fn bell(&self) -> impl AsFd + '_ {
        self.server.bell()
    }

    /// Wants its channel closed.
    pub(super) fn close(&self) {
        if !self.server.shared.stop.close_wanted() {
            self.server.control().close();
        }
    }

    /// Makes it hot. False: it is already.
    pub(super) fn warm(&mut self) -> bool {
        if !self.is_hot {
            self.server.intake.parked.clear(&self.server.shared.port.outbox.memory, SOCKET);
            self.idle = None;
        }
        !std::mem::replace(&mut self.is_hot, true)
    }

    /// Its bell has rung. Takes what is queued, in bounds; what is left makes the bell ring again.
    pub(super) fn hear(&mut self) {
        let shared = &self.server.shared;
        if hear(&shared.port.bell, &shared.port.carriage) == Heard::PeerGone {
            shared.stop.note_gone();
        }
    }

    /// Serves up to [`BUDGET`] calls.
    #[inline]
    pub(super) fn turn(&mut self, pace: &mut Pace) -> Next {
        let handler = &mut self.handler;
        for taken in 0..BUDGET {
            match self.server.take_one(&mut |call| handler.call(call)) {
                Ok(intake::Next::Call | intake::Next::PassedOver) => {}
                Ok(intake::Next::Empty) if taken > 0 => {
                    self.busy(taken, pace);
                    return Next::Busy;
                }
                Ok(intake::Next::Empty) => return self.nothing(pace),
                Ok(intake::Next::Over) => return self.over(),
                Err(violation) => return Next::Ended(Err(violation.into())),
            }
        }
        self.busy(BUDGET, pace);
        Next::Busy
    }

    #[inline]
    fn busy(&mut self, taken: u32, pace: &mut Pace) {
        if self.idle.take().is_some() {
            self.server.learned.covered();
        }
        pace.spend(taken);
    }

    /// The ring is empty.
    #[inline]
    fn nothing(&mut self, pace: &mut Pace) -> Next {
        pace.spend(1);
        let (now, tick) = pace.time();
        match &mut self.idle {
            Some(idle) if idle.tick == tick => return Next::Idle,
            Some(idle) => {
                let since = *idle.since.get_or_insert(now);
                if now.saturating_sub(since) < idle.budget && !self.server.shared.stop.is_gone() {
                    return Next::Idle;
                }
            }
            None => {
                let budget = self.budget(pace.cpu());
                self.idle = Some(Idle { budget, tick, since: None });
                if budget > 0 && !self.server.shared.stop.is_gone() {
                    return Next::Idle;
                }
            }
        }
        self.fall_asleep()
    }

    /// How long it is looked at in vain: not at all where its client waits for this very CPU.
    #[inline]
    fn budget(&self, here: u32) -> u64 {
        let (learned, port) = (&self.server.learned, &self.server.shared.port);
        learned.tell_cpu(&port.outbox.memory, here);
        let is_neighbour = here != 0 && control::load_cpu(&port.peer.memory) == here;
        if learned.may_spin() && !is_neighbour { learned.budget() } else { 0 }
    }

    #[cold]
    fn fall_asleep(&mut self) -> Next {
        let shared = &self.server.shared;
        if shared.stop.is_gone() {
            return Next::Ended(Ok(self.server.ended(Ended::CallerGone)));
        }
        if self.idle.as_ref().is_some_and(|it| it.budget > 0) {
            self.server.learned.not_covered();
        }
        match self.server.intake.arm(shared, SOCKET) {
            Err(violation) => Next::Ended(Err(violation.into())),
            Ok(false) => Next::Busy,
            Ok(true) => {
                self.is_hot = false;
                Next::Quiet
            }
        }
    }

    /// The ring is closed: it ends when the last call is answered, by whichever thread has it.
    #[cold]
    fn over(&mut self) -> Next {
        let shared = &self.server.shared;
        if !std::mem::replace(&mut self.is_draining, true) {
            shared.stop.begin_drain();
        }
        if shared.in_flight() == 0 || shared.stop.is_gone() {
            return Next::Ended(Ok(self.server.ended(self.server.why_over())));
        }
        self.is_hot = false;
        Next::Quiet
    }

    pub(super) fn end(self, outcome: Result<Served, ServeError>) {
        let Self { server, handler, .. } = self;
        drop(server);
        handler.ended(outcome);
    }
}
