//! Figures for a snapshot: the kernel's from the groups, the workers' own from their pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use mortise_control::stats::{self, Side};
use mortise_control::{ServiceName, WorkerId};

use super::Figures;
use super::pages::Pages;
use super::resources::Charges;
use crate::api::{ModuleStatus, PressureStatus, RuntimeKind, ServiceFigures, Snapshot};
use crate::cgroup::Pressure;
use crate::lifecycle::{Reading, ResourceId};
use crate::spawn::Spawner;

/// Reads all figures: blocks for some microseconds per worker and resource.
pub(super) fn reader(spawner: Spawner, pages: Pages, charges: Charges) -> Box<Figures> {
    Box::new(move |snapshot: &mut Snapshot| {
        for module in &mut snapshot.modules {
            // Shared with what was published: the copy is made here, off the loop.
            let module = Arc::make_mut(module);
            let declared = declared(module);
            for status in &mut module.workers {
                let Some(worker) = worker_id(&status.worker) else { continue };
                if let Some(kernel) = spawner.figures(worker) {
                    status.memory_bytes = kernel.memory_bytes.unwrap_or(0);
                    status.cpu_usec = kernel.cpu_usec.unwrap_or(0);
                    status.pids = kernel.pids.unwrap_or(0);
                    status.oom_kills = status.oom_kills.max(kernel.oom_kills.unwrap_or(0));
                }
                status.pressure = spawner.pressure(worker).map(|it| {
                    let Pressure { memory_usec, cpu_usec, io_usec } = it;
                    PressureStatus { memory_usec, cpu_usec, io_usec }
                });
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

/// What a worker has come to; none: there is no such worker any more. Blocks for some microseconds.
pub(super) fn reading(spawner: &Spawner, pages: &Pages, worker: WorkerId) -> Option<Reading> {
    let kernel = spawner.figures(worker)?;
    let mut sum = Reading { cpu_usec: kernel.cpu_usec, memory_bytes: kernel.memory_bytes, ..Reading::default() };
    // What it calls itself says nothing of how it answers.
    let answers = |it: &stats::Figures| matches!(it.side, Side::Provided | Side::Http);
    for alleged in pages.read(worker).unwrap_or_default().iter().filter(|it| answers(it)) {
        sum.calls = sum.calls.saturating_add(alleged.calls);
        sum.errors = sum.errors.saturating_add(alleged.errors);
        for (sum, alleged) in sum.latency_log2.iter_mut().zip(alleged.latency_log2) {
            *sum = sum.saturating_add(alleged);
        }
    }
    Some(sum)
}

/// What a module may count. Other names are its invention, and would become labels in somebody's monitoring.
#[derive(Debug)]
struct Declared {
    /// The services it provides.
    services: BTreeSet<ServiceName>,
    /// `http`, for all that come by HTTP: it provides a service there, or it is a base, whose ingress they all come through.
    http: bool,
}

fn declared(module: &ModuleStatus) -> Declared {
    Declared {
        services: module.services.iter().map(|it| it.service.clone()).collect(),
        http: module.runtime == Some(RuntimeKind::Base) || module.services.iter().any(|it| it.http.is_some()),
    }
}

fn served(alleged: stats::Figures, declared: &Declared) -> Option<ServiceFigures> {
    let allowed = match alleged.side {
        Side::Provided => declared.services.contains(&alleged.service),
        Side::Http => declared.http && alleged.service.as_str() == "http",
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
    use mortise_control::{ModuleName, TenantName};

    use super::*;
    use crate::api::{Desired, ServiceStatus};

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

    fn module(runtime: RuntimeKind, services: &[(&str, Option<&str>)]) -> Declared {
        let status = |(name, http): &(&str, Option<&str>)| ServiceStatus {
            service: ServiceName::new(name).unwrap(),
            published: true,
            http: http.map(str::to_owned),
            callers: 0,
        };
        declared(&ModuleStatus {
            tenant: TenantName::new("default").unwrap(),
            module: ModuleName::new("m").unwrap(),
            runtime: Some(runtime),
            desired: Desired::Running,
            version: None,
            beside: None,
            beside_share: None,
            beside_paused: false,
            beside_shadow: None,
            shadow: None,
            limits: crate::api::ModuleLimits::default(),
            installed: vec![],
            services: services.iter().map(status).collect(),
            workers: vec![],
        })
    }

    #[test]
    fn a_module_counts_what_it_provides_and_nothing_else() {
        let declared = module(RuntimeKind::Sdk, &[("spell", None), ("page", Some("/"))]);
        assert!(served(alleged("spell", Side::Provided), &declared).is_some());
        assert!(served(alleged("http", Side::Http), &declared).is_some());
        assert!(served(alleged("spell", Side::Required), &declared).is_none());
        assert!(served(alleged("invented", Side::Provided), &declared).is_none());
        let calls_only = module(RuntimeKind::Sdk, &[("spell", None)]);
        assert!(served(alleged("http", Side::Http), &calls_only).is_none());
    }

    #[test]
    fn a_base_counts_the_requests_of_its_ingress_without_a_service_of_its_own() {
        let base = module(RuntimeKind::Base, &[]);
        assert!(served(alleged("http", Side::Http), &base).is_some());
        assert!(served(alleged("invented", Side::Http), &base).is_none());
        assert!(served(alleged("http", Side::Provided), &base).is_none());
    }

    #[test]
    fn a_worker_is_read_as_it_is_shown() {
        let worker = WorkerId { slot: 7, generation: 12 };
        assert_eq!(worker_id(&worker.to_string()), Some(worker));
        assert_eq!(worker_id("7"), None);
    }
}
