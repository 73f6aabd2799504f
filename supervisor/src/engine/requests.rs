//! Requests on their way from a handle to `step`: each gets a ticket and a name; a package is looked up off the loop.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::publish::Answer;
use super::report::Report;
use super::{Submission, clock};
use crate::api::{ApiError, Blame, ErrorCode, OperationId, Request};
use crate::lifecycle::{Event, ModuleSpec, Package, Submitted, Ticket};
use crate::package::{Digest, PackageError, PackageStore};

/// Requests that may wait for their answer at the same time.
const MOST_WAITING: usize = 256;

/// Who waits for which answer.
#[derive(Debug)]
pub(super) struct Requests {
    packages: Arc<PackageStore>,
    reports: mpsc::Sender<Report>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    issued: u64,
}

impl Requests {
    pub fn new(packages: Arc<PackageStore>, reports: mpsc::Sender<Report>) -> Self {
        Self { packages, reports, waiting: HashMap::new(), issued: 0 }
    }

    /// Takes a request in. Some: it can go to `step` at once. None: it comes back as a report, or was refused.
    pub fn admit(&mut self, submission: Submission) -> Option<Event> {
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
        match request {
            Request::Install { ref digest, .. } => {
                let lookup = Lookup { packages: Arc::clone(&self.packages), digest: digest.clone() };
                let submitted = Submitted { ticket, operation, request, package: None };
                tokio::spawn(look_up(lookup, submitted, self.reports.clone()));
                None
            }
            request => Some(Event::Request(Box::new(Submitted { ticket, operation, request, package: None }))),
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
