//! What each action does. There are no decisions here: what cannot be done becomes an event.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mortise_control::{
    Attach, ChannelId, ExportedState, PROTOCOL, ResourceGrant, TenantName, ToWorker, Welcome, WorkerId,
};

use super::channels::Tampered;
use super::control::Message;
use super::figures;
use super::report::Report;
use super::start::Engine;
use super::states;
use crate::api::{OperationId, TenantLimits};
use crate::cgroup::Quota;
use crate::failpoint::{self, Point};
use crate::lifecycle::{Action, Event, ResourceId};
use crate::store::Change;

impl Engine {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { commit, changes } => {
                for change in &changes {
                    match change {
                        Change::RemoveOperation(operation) => self.publisher.forget(operation),
                        Change::RemoveModule(key) => self.publisher.forget_logs(key),
                        Change::PutModule(_)
                        | Change::PutVersion(_)
                        | Change::RemoveVersion(..)
                        | Change::PutWorker(_)
                        | Change::PutOperation(_)
                        | Change::PutRoutes(_)
                        | Change::PutGroup(_)
                        | Change::RemoveGroup(..)
                        | Change::PutTenant(_)
                        | Change::RemoveTenant(_)
                        | Change::PutMeta(_) => {}
                    }
                }
                self.store.commit(commit, changes);
            }
            Action::Answer { ticket, result } => {
                failpoint::pass(Point::Answer);
                if let Some(to) = self.requests.answered(ticket) {
                    self.publisher.answer(to, result.map(|it| *it));
                }
            }
            Action::Progress(operation) => {
                failpoint::pass_at(Point::Step, || {
                    operation.steps.last().map_or_else(String::new, |it| failpoint::of_step(&it.step))
                });
                self.publisher.operation(*operation);
            }
            Action::Finish(operation) => {
                failpoint::pass(Point::Finish);
                self.publisher.operation(*operation);
            }
            Action::Emit(event) => self.publisher.emit(*event),
            Action::SetTimer { timer, at } => self.timers.set(timer, at),
            Action::AllStopped => self.stopped = true,

            Action::Spawn(order) => self.workers.spawn(*order),
            Action::Adopt(order) => {
                self.unsettled += 1;
                self.workers.adopt(*order);
            }
            Action::Terminate { worker } => self.workers.terminate(worker),
            Action::Freeze { worker } => self.workers.freeze(worker),
            Action::Thaw { worker } => self.workers.thaw(worker),
            Action::Kill { worker } => self.workers.kill(worker),
            Action::RemoveGroup { worker } => self.workers.remove(worker),

            Action::SendWelcome { worker, resources } => self.welcome(worker, resources),
            Action::Disconnect { worker, reason } => {
                if let Some(outgoing) = self.workers.outgoing(worker) {
                    outgoing.close(reason);
                }
            }
            Action::MakeChannel { channel, caller, callee } => self.make_channel(channel, caller, callee),
            Action::SealAndOpen { channel, caller, callee } => self.seal_and_open(channel, caller, callee),
            Action::ForgetChannel { channel } => self.channels.forget(channel),
            Action::SendClose { worker, channel } => self.tell(worker, &ToWorker::Close { channel }),
            Action::SendRoutes { worker, epoch, services } => self.tell(worker, &ToWorker::Routes { epoch, services }),
            Action::SendHttpRoutes { worker, epoch, routes } => {
                self.tell(worker, &ToWorker::HttpRoutes { epoch, routes });
            }
            Action::SendDrain { worker, within_ms } => self.tell(worker, &ToWorker::Drain { within_ms }),
            Action::SendPing { worker, nonce } => self.tell(worker, &ToWorker::Ping { nonce }),

            Action::ExportState { operation, handover, worker, max_bytes } => {
                self.export_state(operation, handover, worker, max_bytes);
            }
            Action::SealState { operation, handover, len } => self.seal_state(operation, handover, len),
            Action::ImportState { handover, worker, state } => {
                if let Some(memory) = self.states.take(handover) {
                    let ExportedState { version, len } = state;
                    self.workers.send(worker, &ToWorker::ImportState { handover, version, len }, &[memory]);
                }
            }
            Action::ForgetState { handover } => drop(self.states.take(handover)),

            Action::SetQuota { operation, tenant, limits } => self.set_quota(operation, &tenant, &limits),
            Action::SetLimits { operation, limits, workers } => self.workers.set_limits(operation, limits, workers),
            Action::Measure { operation, workers } => self.measure(operation, workers),

            Action::LoadResource { resource, digest } => self.resources.load(resource, digest),
            Action::ReleaseResource { resource } => self.resources.release(&resource),
            Action::RemovePackage { operation, tenant: _, digests } => self.remove_packages(operation, digests),
        }
    }

    fn set_quota(&self, operation: Option<OperationId>, tenant: &TenantName, limits: &TenantLimits) {
        let TenantLimits { memory_bytes, cpu_milli, pids, log_bytes, .. } = *limits;
        self.workers.sink.set_quota(tenant, log_bytes);
        let (groups, tenant) = (Arc::clone(self.resources.groups()), tenant.clone());
        groups.set_quota(tenant.as_str(), Quota { memory_bytes, cpu_milli, pids });
        let reports = self.workers.reports.clone();
        tokio::spawn(async move {
            let name = tenant.to_string();
            let enforcing = tokio::task::spawn_blocking(move || {
                failpoint::reach(Point::Quota).map_err(|error| error.to_string())?;
                groups.enforce_quota(&name).map_err(|error| error.to_string())
            });
            // An error of the join: the runtime is shutting down.
            let Ok(result) = enforcing.await else { return };
            let _ = reports.send(Report::Event(Event::QuotaSet { operation, tenant, result })).await;
        });
    }

    fn tell(&self, worker: WorkerId, message: &ToWorker) {
        self.workers.send(worker, message, &[]);
    }

    fn welcome(&self, worker: WorkerId, resources: Vec<(ResourceGrant, ResourceId)>) {
        let Some(outgoing) = self.workers.outgoing(worker) else { return };
        let refuse = |reason: String| {
            tracing::error!(%worker, reason, "a worker cannot be welcomed");
            outgoing.close(reason);
        };
        let page = failpoint::reach(Point::Page).and_then(|()| self.workers.pages.make(worker));
        let mut fds = match page {
            Ok(page) => vec![page],
            Err(error) => return refuse(format!("its figures page cannot be made: {error}")),
        };
        for (grant, resource) in &resources {
            match self.resources.memory(resource) {
                Some(memory) => fds.push(memory),
                None => return refuse(format!("the resource {} is not loaded", grant.name)),
            }
        }
        let resources = resources.into_iter().map(|(grant, _)| grant).collect();
        self.workers.send(worker, &ToWorker::Welcome(Welcome { protocol: PROTOCOL, resources }), &fds);
    }

    fn make_channel(
        &mut self,
        channel: ChannelId,
        (caller, to_caller): (WorkerId, Box<Attach>),
        (callee, to_callee): (WorkerId, Box<Attach>),
    ) {
        let (Some(caller), Some(callee)) = (self.workers.outgoing(caller), self.workers.outgoing(callee)) else {
            let reason = "one of its ends is not connected".into();
            return self.pending.push_back(Event::ChannelFailed { channel, reason });
        };
        let made = failpoint::reach(Point::Channel)
            .and_then(|()| self.channels.make(channel, to_caller.caller, to_caller.callee));
        let packets = made.map_err(|error| error.to_string()).and_then(|ends| {
            // Both or none: an end that was attached alone would wait for nothing.
            Ok((attach(*to_caller, &ends.caller)?, attach(*to_callee, &ends.callee)?))
        });
        match packets {
            Ok((to_caller, to_callee)) => {
                caller.send(to_caller);
                failpoint::pass(Point::Attached);
                callee.send(to_callee);
            }
            Err(reason) => {
                self.channels.forget(channel);
                self.pending.push_back(Event::ChannelFailed { channel, reason });
            }
        }
    }

    fn seal_and_open(&mut self, channel: ChannelId, caller: WorkerId, callee: WorkerId) {
        match self.channels.seal(channel) {
            Some(Ok(segments)) => {
                let open = ToWorker::Open { channel };
                self.workers.send(caller, &open, &[segments.callee]);
                failpoint::pass(Point::Opened);
                self.workers.send(callee, &open, &[segments.caller]);
            }
            Some(Err(Tampered { writer, what })) => {
                self.pending.push_back(Event::ChannelTampered { channel, writer, what });
            }
            None => tracing::debug!(%channel, "a channel that is not held was to be opened"),
        }
    }

    fn export_state(&mut self, operation: OperationId, handover: u64, worker: WorkerId, max_bytes: u64) {
        match self.states.make(handover, max_bytes) {
            Ok(memory) => self.workers.send(worker, &ToWorker::ExportState { handover, max_bytes }, &[memory]),
            Err(error) => {
                let result = Err(format!("memory for it cannot be made: {error}"));
                self.pending.push_back(Event::StateSealed { operation, handover, result });
            }
        }
    }

    fn seal_state(&self, operation: OperationId, handover: u64, len: u64) {
        let Some(memory) = self.states.get(handover) else { return };
        let reports = self.workers.reports.clone();
        tokio::spawn(async move {
            // An error of the join: the runtime is shutting down.
            let Ok(result) = tokio::task::spawn_blocking(move || states::seal(&memory, len)).await else { return };
            let _ = reports.send(Report::Event(Event::StateSealed { operation, handover, result })).await;
        });
    }

    fn measure(&self, operation: OperationId, workers: Vec<WorkerId>) {
        let (spawner, pages) = (self.workers.spawner.clone(), self.workers.pages.clone());
        let reports = self.workers.reports.clone();
        tokio::spawn(async move {
            let reading = move || {
                if failpoint::reach(Point::Measure).is_err() {
                    return Vec::new();
                }
                let read = |it: WorkerId| Some((it, figures::reading(&spawner, &pages, it)?));
                workers.into_iter().filter_map(read).collect()
            };
            // An error of the join: the runtime is shutting down.
            let Ok(readings) = tokio::task::spawn_blocking(reading).await else { return };
            let _ = reports.send(Report::Event(Event::Measured { operation, readings })).await;
        });
    }

    fn remove_packages(&self, operation: OperationId, digests: Vec<String>) {
        let (packages, reports) = (Arc::clone(&self.workers.packages), self.workers.reports.clone());
        tokio::spawn(async move {
            let removing = move || {
                let mut bytes = 0;
                for text in digests {
                    let digest = text.parse().map_err(|_| format!("{text:?} is no digest"))?;
                    bytes += packages.remove(&digest).map_err(|error| error.to_string())?;
                }
                Ok(bytes)
            };
            // An error of the join: the runtime is shutting down.
            let Ok(result) = tokio::task::spawn_blocking(removing).await else { return };
            let _ = reports.send(Report::Event(Event::PackageRemoved { operation, result })).await;
        });
    }
}

fn attach(attach: Attach, fds: &[Arc<OwnedFd>]) -> Result<Message, String> {
    failpoint::reach(Point::Attach).map_err(|error| error.to_string())?;
    Message::new(&ToWorker::Attach(attach), fds).map_err(|error| error.to_string())
}
