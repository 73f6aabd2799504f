//! Figures for a snapshot: the kernel's from the groups, the workers' own from their pages.

use std::collections::BTreeSet;

use mortise_control::stats::{self, Side};
use mortise_control::{ServiceName, WorkerId};

use super::Figures;
use super::pages::Pages;
use super::resources::Charges;
use crate::api::{ModuleStatus, ServiceFigures, Snapshot};
use crate::lifecycle::ResourceId;
use crate::spawn::Spawner;

/// Reads all figures: blocks for some microseconds per worker and resource.
pub(super) fn reader(spawner: Spawner, pages: Pages, charges: Charges) -> Box<Figures> {
    Box::new(move |snapshot: &mut Snapshot| {
        for module in &mut snapshot.modules {
            let declared = declared(module);
            for status in &mut module.workers {
                let Some(worker) = worker_id(&status.worker) else { continue };
                if let Some(kernel) = spawner.figures(worker) {
                    status.memory_bytes = kernel.memory_bytes.unwrap_or(0);
                    status.cpu_usec = kernel.cpu_usec.unwrap_or(0);
                    status.pids = kernel.pids.unwrap_or(0);
                    status.oom_kills = status.oom_kills.max(kernel.oom_kills.unwrap_or(0));
                }
                if let Some(alleged) = pages.read(worker) {
                    status.figures = alleged.into_iter().filter_map(|it| served(it, &declared)).collect();
                }
            }
        }
        for status in &mut snapshot.resources {
            let id = ResourceId {
                tenant: status.tenant.clone(),
                resource: status.resource.clone(),
                module: status.module.clone(),
                version: status.version.clone(),
            };
            status.charged_bytes = charges.read(&id).unwrap_or(status.charged_bytes);
        }
    })
}

/// What a module may count: the services it provides, and `http` for all that come by HTTP. Other names are its invention, and would
/// become labels in somebody's monitoring.
fn declared(module: &ModuleStatus) -> BTreeSet<(bool, ServiceName)> {
    module.services.iter().map(|it| (it.http.is_some(), it.service.clone())).collect()
}

fn served(alleged: stats::Figures, declared: &BTreeSet<(bool, ServiceName)>) -> Option<ServiceFigures> {
    let allowed = match alleged.side {
        Side::Provided => declared.iter().any(|(_, name)| *name == alleged.service),
        Side::Http => alleged.service.as_str() == "http" && declared.iter().any(|(http, _)| *http),
        Side::Required => false,
    };
    allowed.then(|| ServiceFigures {
        service: alleged.service,
        calls: alleged.calls,
        errors: alleged.errors,
        latency_log2: alleged.latency_log2.to_vec(),
        latency_sum_ns: alleged.latency_sum_ns,
    })
}

fn worker_id(text: &str) -> Option<WorkerId> {
    let (slot, generation) = text.split_once('.')?;
    Some(WorkerId { slot: slot.parse().ok()?, generation: generation.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alleged(service: &str, side: Side) -> stats::Figures {
        stats::Figures {
            service: ServiceName::new(service).unwrap(),
            side,
            calls: 1,
            errors: 0,
            in_flight: 0,
            latency_sum_ns: 5,
            latency_log2: [0; stats::BUCKETS],
        }
    }

    #[test]
    fn a_module_counts_what_it_provides_and_nothing_else() {
        let name = |it| ServiceName::new(it).unwrap();
        let declared = BTreeSet::from([(false, name("spell")), (true, name("page"))]);
        assert!(served(alleged("spell", Side::Provided), &declared).is_some());
        assert!(served(alleged("http", Side::Http), &declared).is_some());
        assert!(served(alleged("spell", Side::Required), &declared).is_none());
        assert!(served(alleged("invented", Side::Provided), &declared).is_none());
        let calls_only = BTreeSet::from([(false, name("spell"))]);
        assert!(served(alleged("http", Side::Http), &calls_only).is_none());
    }

    #[test]
    fn a_worker_is_read_as_it_is_shown() {
        let worker = WorkerId { slot: 7, generation: 12 };
        assert_eq!(worker_id(&worker.to_string()), Some(worker));
        assert_eq!(worker_id("7"), None);
    }
}
