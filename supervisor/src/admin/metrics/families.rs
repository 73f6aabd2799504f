//! Which metrics there are, and how each follows from the snapshot.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::api::{Desired, ModuleStatus, ServiceFigures, Snapshot, WorkerState, WorkerStatus};

type Labels = Vec<(&'static str, String)>;

/// One metric and everything that has it.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Vec<(Labels, Value)>,
}

enum Value {
    Gauge(f64),
    Counter(u64),
    CounterSeconds(f64),
    Histogram(Histogram),
}

struct Histogram {
    sum_seconds: f64,
    count: u64,
    /// Upper bound in seconds, and how many lie in this bucket alone.
    buckets: Vec<(f64, u64)>,
}

impl Value {
    const fn metric_type(&self) -> MetricType {
        match self {
            Self::Gauge(_) => MetricType::Gauge,
            Self::Counter(_) | Self::CounterSeconds(_) => MetricType::Counter,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        const NONE: Option<&Exemplar<Labels, f64>> = None;
        match self {
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Counter(value) => encoder.encode_counter(value, NONE),
            Self::CounterSeconds(value) => encoder.encode_counter(value, NONE),
            Self::Histogram(it) => encoder.encode_histogram::<Labels>(it.sum_seconds, it.count, &it.buckets, None),
        }
    }
}

impl Family {
    fn new(name: &'static str, help: &'static str, samples: impl IntoIterator<Item = (Labels, Value)>) -> Self {
        Self { name, help, unit: None, samples: samples.into_iter().collect() }
    }

    fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((_, first)) = self.samples.first() else { return Ok(()) };
        let kind = first.metric_type();
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        self.samples.iter().try_for_each(|(labels, value)| value.encode(&mut metric.encode_family(labels)?))
    }
}

/// Everything that is measured.
pub(super) fn of(snapshot: &Snapshot) -> Vec<Family> {
    let mut all = host(snapshot);
    all.extend(modules(snapshot));
    all.extend(workers(snapshot));
    all.extend(services(snapshot));
    all.extend(resources(snapshot));
    all
}

fn host(snapshot: &Snapshot) -> Vec<Family> {
    let host = &snapshot.host;
    let version = vec![("version", host.version.clone())];
    let started = host.started.map(|it| (vec![], Value::Gauge(it.as_millisecond() as f64 / 1e3)));
    vec![
        Family::new("supervisor_build", "The supervisor that answers; always 1", [(version, Value::Gauge(1.0))]),
        Family::new("supervisor_start_time", "When the supervisor started, since the epoch", started)
            .in_unit(Unit::Seconds),
        Family::new(
            "degraded_promises",
            "Promises that are not kept on this host",
            [(vec![], Value::Gauge(host.degraded.len() as f64))],
        ),
    ]
}

const STATES: [(WorkerState, &str); 9] = [
    (WorkerState::Starting, "starting"),
    (WorkerState::Ready, "ready"),
    (WorkerState::Published, "published"),
    (WorkerState::Draining, "draining"),
    (WorkerState::Stopped, "stopped"),
    (WorkerState::Backoff, "backoff"),
    (WorkerState::Failed, "failed"),
    (WorkerState::Exited, "exited"),
    (WorkerState::Frozen, "frozen"),
];

fn of_module(it: &ModuleStatus) -> Labels {
    vec![("tenant", it.tenant.to_string()), ("module", it.module.to_string())]
}

fn of_worker(module: &ModuleStatus, it: &WorkerStatus) -> Labels {
    with(with(of_module(module), "version", it.version.to_string()), "worker", it.worker.clone())
}

fn with(mut labels: Labels, name: &'static str, value: impl Into<String>) -> Labels {
    labels.push((name, value.into()));
    labels
}

const fn one_if(it: bool) -> Value {
    Value::Gauge(if it { 1.0 } else { 0.0 })
}

fn modules(snapshot: &Snapshot) -> Vec<Family> {
    let modules = &snapshot.modules;
    let workers = modules.iter().flat_map(|module| {
        STATES.iter().map(move |(state, name)| {
            let count = module.workers.iter().filter(|it| it.state == *state).count();
            (with(of_module(module), "state", *name), Value::Gauge(count as f64))
        })
    });
    let published = modules.iter().flat_map(|module| {
        let services = module.services.iter();
        services.map(|it| (with(of_module(module), "service", it.service.as_str()), one_if(it.published)))
    });
    let callers = modules.iter().flat_map(|module| {
        let services = module.services.iter();
        services.map(|it| (with(of_module(module), "service", it.service.as_str()), Value::Gauge(it.callers.into())))
    });
    let desired = modules.iter().map(|it| (of_module(it), one_if(it.desired == Desired::Running)));
    vec![
        Family::new("module_desired_running", "Whether the operator wants the module to run", desired),
        Family::new("module_workers", "Workers by state, those included that lately ended", workers),
        Family::new("service_published", "Whether the service may be called", published),
        Family::new("service_callers", "Callers that have a channel to the service", callers),
    ]
}

fn all_workers(snapshot: &Snapshot) -> impl Iterator<Item = (&ModuleStatus, &WorkerStatus)> {
    snapshot.modules.iter().flat_map(|module| module.workers.iter().map(move |it| (&**module, it)))
}

fn workers(snapshot: &Snapshot) -> Vec<Family> {
    let each = |value: &dyn Fn(&WorkerStatus) -> Option<Value>| -> Vec<(Labels, Value)> {
        all_workers(snapshot).filter_map(|(module, it)| Some((of_worker(module, it), value(it)?))).collect()
    };
    let gauge = |value: u64| Some(Value::Gauge(value as f64));
    vec![
        Family::new("worker_memory", "Memory charged to the worker's cgroup", each(&|it| gauge(it.memory_bytes)))
            .in_unit(Unit::Bytes),
        Family::new("worker_memory_limit", "Its limit", each(&|it| gauge(it.limits.memory_bytes?)))
            .in_unit(Unit::Bytes),
        Family::new(
            "worker_cpu",
            "CPU time of the worker's cgroup",
            each(&|it| Some(Value::CounterSeconds(it.cpu_usec as f64 / 1e6))),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "worker_waiting",
            "How long some task of the worker has waited for memory, processors or disks; absent where the host does not measure it",
            waiting(snapshot),
        )
        .in_unit(Unit::Seconds),
        Family::new("worker_cpu_limit_cores", "Its limit", each(&|it| Some(Value::Gauge(it.limits.cpu?)))),
        Family::new("worker_pids", "Processes and threads in the worker's cgroup", each(&|it| gauge(it.pids))),
        Family::new("worker_pids_limit", "Its limit", each(&|it| gauge(it.limits.pids?))),
        Family::new(
            "worker_oom_kills",
            "Processes of the worker that the kernel killed for memory",
            each(&|it| Some(Value::Counter(it.oom_kills))),
        ),
        Family::new(
            "worker_restarts",
            "How often this instance was restarted",
            each(&|it| Some(Value::Counter(it.restarts.into()))),
        ),
    ]
}

fn waiting(snapshot: &Snapshot) -> Vec<(Labels, Value)> {
    all_workers(snapshot)
        .filter_map(|(module, worker)| Some((of_worker(module, worker), worker.pressure?)))
        .flat_map(|(labels, it)| {
            [("memory", it.memory_usec), ("cpu", it.cpu_usec), ("io", it.io_usec)]
                .map(|(what, usec)| (with(labels.clone(), "for", what), Value::CounterSeconds(usec as f64 / 1e6)))
        })
        .collect()
}

fn services(snapshot: &Snapshot) -> Vec<Family> {
    let each = |value: &dyn Fn(&ServiceFigures) -> Value| -> Vec<(Labels, Value)> {
        all_workers(snapshot)
            .flat_map(|(module, worker)| {
                let figures = worker.figures.iter();
                figures.map(move |it| (with(of_worker(module, worker), "service", it.service.as_str()), value(it)))
            })
            .collect()
    };
    vec![
        Family::new(
            "calls",
            "Calls that the worker says it has answered, errors included",
            each(&|it| Value::Counter(it.calls)),
        ),
        Family::new("call_errors", "Those that it answered by an error", each(&|it| Value::Counter(it.errors))),
        Family::new("call_duration", "How long it took, by its own clock", each(&|it| Value::Histogram(histogram(it))))
            .in_unit(Unit::Seconds),
    ]
}

/// The worker's own histogram. What it alleges need not add up: the buckets are what counts, and they saturate.
fn histogram(figures: &ServiceFigures) -> Histogram {
    let last = figures.latency_log2.len().saturating_sub(1);
    let mut count = 0_u64;
    let bucket = |(i, alleged): (usize, &u64)| {
        let here = (*alleged).min(u64::MAX - count);
        count += here;
        let bound = if i == last { f64::INFINITY } else { 2_f64.powi(i as i32 + 10) / 1e9 };
        (bound, here)
    };
    let buckets = figures.latency_log2.iter().enumerate().map(bucket).collect();
    Histogram { sum_seconds: figures.latency_sum_ns as f64 / 1e9, count, buckets }
}

fn resources(snapshot: &Snapshot) -> Vec<Family> {
    let each = |value: &dyn Fn(&crate::api::ResourceStatus) -> u64| -> Vec<(Labels, Value)> {
        let resources = snapshot.resources.iter();
        resources
            .map(|it| {
                let labels = vec![
                    ("tenant", it.tenant.to_string()),
                    ("module", it.module.to_string()),
                    ("version", it.version.to_string()),
                    ("resource", it.resource.to_string()),
                ];
                (labels, Value::Gauge(value(it) as f64))
            })
            .collect()
    };
    vec![
        Family::new("resource", "Length of the resource", each(&|it| it.bytes)).in_unit(Unit::Bytes),
        Family::new("resource_charged", "Memory charged to its cgroup", each(&|it| it.charged_bytes))
            .in_unit(Unit::Bytes),
        Family::new("resource_mappings", "Workers that were given it", each(&|it| it.mapped_by.len() as u64)),
    ]
}
