//! Requests on their way from a handle to `step`: each gets a ticket and a name; a package is looked up, and what
//! workers use is read, off the loop.

use std::collections::HashMap;
use std::sync::Arc;

use mortise_control::{ModuleName, TenantName, WorkerId};
use tokio::sync::{mpsc, oneshot};

use super::publish::Answer;
use super::report::Report;
use super::{Submission, clock};
use crate::api::{ApiError, Blame, ErrorCode, OperationId, Request};
use crate::lifecycle::{Event, ModuleSpec, Package, Submitted, Ticket};
use crate::package::{Digest, PackageError, PackageStore};
use crate::spawn::Spawner;

/// Requests that may wait for their answer at the same time.
const MOST_WAITING: usize = 256;

/// Who waits for which answer.
#[derive(Debug)]
pub(super) struct Requests {
    packages: Arc<PackageStore>,
    spawner: Spawner,
    reports: mpsc::Sender<Report>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    issued: u64,
}

impl Requests {
    pub fn new(packages: Arc<PackageStore>, spawner: Spawner, reports: mpsc::Sender<Report>) -> Self {
        Self { packages, spawner, reports, waiting: HashMap::new(), issued: 0 }
    }

    /// Takes a request in. Some: it can go to `step` at once. None: it comes back as a report, or was refused. `workers` are those of a
    /// module that have a group.
    pub fn admit(
        &mut self,
        submission: Submission,
        workers: impl FnOnce(&TenantName, &ModuleName) -> Vec<WorkerId>,
    ) -> Option<Event> {
        let Submission { id, request, answer } = submission;
        if self.waiting.len() >= MOST_WAITING {
            let refused = ApiError::new(ErrorCode::Unavailable, Blame::Host, "too many requests wait for the disk");
            let _ = answer.send(Err(refused.remedy("Try again in a second.")));
            return None;
        }
        let ticket = Ticket(self.issued);
        self.issued += 1;
        self.waiting.insert(ticket, answer);
        let operation = id.unwrap_or_else(|| OperationId(format!("op-{:016x}", u64::from_ne_bytes(clock::random()))));
        let submitted = Submitted { ticket, operation, request, package: None, used: Vec::new() };
        match &submitted.request {
            Request::Install { digest, .. } => {
                let lookup = Lookup { packages: Arc::clone(&self.packages), digest: digest.clone() };
                tokio::spawn(look_up(lookup, submitted, self.reports.clone()));
                None
            }
            Request::SetLimits { tenant, module, force: false, .. } => {
                let workers = workers(tenant, module);
                tokio::spawn(measure(self.spawner.clone(), workers, submitted, self.reports.clone()));
                None
            }
            _ => Some(Event::Request(Box::new(submitted))),
        }
    }

    /// Who waits for the answer to this ticket. Each is answered once.
    pub fn answered(&mut self, ticket: Ticket) -> Option<oneshot::Sender<Answer>> {
        self.waiting.remove(&ticket)
    }
}

struct Lookup {
    packages: Arc<PackageStore>,
    digest: String,
}

impl Lookup {
    /// None: there is no such package.
    fn find(&self) -> Result<Option<Package>, PackageError> {
        let Ok(digest) = self.digest.parse::<Digest>() else { return Ok(None) };
        match self.packages.find(&digest) {
            Ok(installed) => {
                Ok(Some(Package { spec: ModuleSpec::from(&installed.manifest), digest: self.digest.clone() }))
            }
            Err(PackageError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn look_up(lookup: Lookup, mut submitted: Submitted, reports: mpsc::Sender<Report>) {
    let found = tokio::task::spawn_blocking(move || lookup.find()).await;
    submitted.package = match found {
        Ok(Ok(package)) => package,
        Ok(Err(error)) => {
            tracing::error!(%error, "a package cannot be read");
            None
        }
        // The runtime is shutting down.
        Err(_) => return,
    };
    let _ = reports.send(Report::Event(Event::Request(Box::new(submitted)))).await;
}

/// What the workers use goes with the request.
async fn measure(spawner: Spawner, workers: Vec<WorkerId>, mut submitted: Submitted, reports: mpsc::Sender<Report>) {
    let read = move || {
        let used = |it: WorkerId| Some((it, spawner.figures(it)?.memory_bytes?));
        workers.into_iter().filter_map(used).collect()
    };
    // An error of the join: the runtime is shutting down.
    let Ok(used) = tokio::task::spawn_blocking(read).await else { return };
    submitted.used = used;
    let _ = reports.send(Report::Event(Event::Request(Box::new(submitted)))).await;
}
