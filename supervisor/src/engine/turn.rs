//! The loop: takes what has happened, lets `step` decide, performs, publishes.

use super::control::Inbound;
use super::publish::Pulse;
use super::report::Report;
use super::start::Engine;
use super::{Submission, clock};
use crate::lifecycle::Event;

/// What is taken of each source before the outcome is published and the others get the processor. It bounds how long one source
/// can keep the others waiting, and one publishing serves so many events.
const TURN: usize = 32;

/// One thing that came in.
enum Incoming {
    Report(Report),
    Submission(Submission),
    Inbound(Inbound),
    Timer,
}

impl Engine {
    /// Runs until everything is stopped (see [`super::Controls::stop`]) or left (see [`super::Controls::leave`]), then closes the store and removes what the loop itself holds.
    pub async fn run(mut self) {
        let first = std::mem::take(&mut self.first);
        self.perform_all(first);
        self.look_settled();
        self.publisher.publish(&mut self.state);
        while !self.stopped {
            let incoming = self.wait().await;
            self.take(incoming);
            for _ in 0..TURN {
                if !self.take_waiting() {
                    break;
                }
            }
            self.look_settled();
            self.publisher.publish(&mut self.state);
            // The admin API and the control sockets run on this thread too.
            tokio::task::yield_now().await;
        }
        let Self { store, resources, .. } = self;
        let closing = tokio::task::spawn_blocking(move || {
            resources.clear();
            store.close();
        });
        if let Err(error) = closing.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    async fn wait(&mut self) -> Incoming {
        let due = self.timers.next();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(at.since(clock::mono())).await,
                None => std::future::pending().await,
            }
        };
        // Whichever source is ready, at random: none is preferred. Their senders are kept by the engine itself or by handles; an
        // end of one is no event.
        tokio::select! {
            Some(report) = self.reports.recv() => Incoming::Report(report),
            Some(submission) = self.submissions.recv() => Incoming::Submission(submission),
            Some(inbound) = self.inbound.recv() => Incoming::Inbound(inbound),
            () = timer => Incoming::Timer,
        }
    }

    /// One of each source, if it is there.
    fn take_waiting(&mut self) -> bool {
        let mut some = false;
        if let Ok(report) = self.reports.try_recv() {
            self.take(Incoming::Report(report));
            some = true;
        }
        if let Ok(submission) = self.submissions.try_recv() {
            self.take(Incoming::Submission(submission));
            some = true;
        }
        if let Ok(inbound) = self.inbound.try_recv() {
            self.take(Incoming::Inbound(inbound));
            some = true;
        }
        if let Some(timer) = self.timers.due(clock::mono()) {
            self.decide(Event::Timer(timer));
            some = true;
        }
        some && !self.stopped
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Report(report) => self.take_report(report),
            Incoming::Submission(submission) => {
                let workers = |tenant: &_, module: &_| self.state.workers_of(tenant, module);
                if let Some(event) = self.requests.admit(submission, workers) {
                    self.decide(event);
                }
            }
            Incoming::Inbound(inbound) => self.take_inbound(inbound),
            Incoming::Timer => {
                if let Some(timer) = self.timers.due(clock::mono()) {
                    self.decide(Event::Timer(timer));
                }
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Event(mut event) => {
                match &mut event {
                    Event::GroupGone { worker, remains } => self.workers.count_closed(*worker, remains),
                    Event::Lost { .. } => self.unsettled = self.unsettled.saturating_sub(1),
                    _ => {}
                }
                self.decide(event);
            }
            Report::Begun(begun) => {
                let event = self.workers.begin(*begun);
                if let Event::Adopted { .. } | Event::Lost { .. } = event {
                    self.unsettled = self.unsettled.saturating_sub(1);
                }
                self.decide(event);
            }
            Report::Loaded { resource, loaded } => {
                let event = self.resources.keep(resource, *loaded);
                self.decide(event);
            }
            Report::Leave => {
                self.resources.leave();
                self.stopped = true;
            }
            Report::Configure(config) => self.state.configure(*config),
            Report::Heartbeat(beat) => {
                let _ = beat.send(());
            }
        }
    }

    fn take_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Connected { worker, outgoing } => self.workers.connected(worker, Some(outgoing)),
            Inbound::Message { worker, message } => self.decide(Event::Message { worker, message: *message }),
            Inbound::Disconnected { worker } => {
                self.workers.connected(worker, None);
                self.decide(Event::Disconnected { worker });
            }
            Inbound::Exited { worker, exit } => self.decide(Event::Exited { worker, exit }),
        }
    }

    /// Lets `step` decide on an event and on whatever its actions could not do.
    fn decide(&mut self, event: Event) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            tracing::trace!(?event, "step");
            let pulse = Pulse::from(&event);
            let actions = self.state.step(event, &clock::now());
            self.publisher.saw(pulse, &actions);
            self.perform_all(actions);
        }
    }

    fn perform_all(&mut self, actions: Vec<crate::lifecycle::Action>) {
        for action in actions {
            tracing::trace!(?action, "perform");
            self.perform(action);
        }
    }

    fn look_settled(&self) {
        if self.unsettled == 0 {
            self.settled.send_if_modified(|it| !std::mem::replace(it, true));
        }
    }
}
