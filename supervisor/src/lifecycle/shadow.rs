//! Shadow traffic: a share of the calls that the version in charge answers is also sent to the version beside, by the callers, who compare
//! the answers and tell how it went.
//!
//! How many percent, and which comparison it is, is on disk. What came of it is in memory: callers tell it from its beginning, again on every new
//! connection, so a supervisor that comes later has it again, but for callers that have ended meanwhile. Whatever they tell is an
//! allegation: it is bounded, taken for what they may call only, and shown, never acted upon.

use std::collections::BTreeMap;
use std::time::Duration;

use mortise_control::shadow::{
    Difference, MOST_EXAMPLES, MOST_METHODS, MOST_NAME, MOST_PATH, Piece, ShadowRoute, Shadowed, ShadowedMethod,
};
use mortise_control::stats::BUCKETS;
use mortise_control::{ChannelId, ModuleName, ServiceName, TenantName, WorkerId};

use super::gates::quantile;
use super::module::Module;
use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::turn::Turn;
use super::worker::Worker;
use super::{ModuleKey, Timer};
use crate::api::{ApiError, Percentiles, ShadowExample, ShadowMethod, ShadowReport};
use crate::store::{BesideRecord, Change, ModuleRecord};

/// The most methods of a module that are shown: what honest services have is far less.
const MOST_SHOWN: usize = 8 * MOST_METHODS;

/// From one showing of what callers tell to the next: each of a thousand callers tells once a second.
const SHOW: Duration = Duration::from_secs(1);

/// What callers have told of one comparison.
#[derive(Debug, Default)]
pub(super) struct Shadowing {
    run: u64,
    told: BTreeMap<(WorkerId, ServiceName), Vec<ShadowedMethod>>,
    /// The sum over callers that have ended.
    ended: BTreeMap<(ServiceName, String), ShadowedMethod>,
    /// The sum over all, as it is shown.
    shown: Vec<ShadowMethod>,
    /// More was told than is shown.
    news: bool,
    /// It is shown again when its time has come.
    waits: bool,
}

impl Shadowing {
    /// Adds up what was told.
    fn sum_up(&mut self, alive: impl Fn(WorkerId) -> bool) {
        for ((_, service), methods) in self.told.extract_if(.., |(worker, _), _| !alive(*worker)) {
            for method in methods {
                let at = (service.clone(), method.method.clone());
                if self.ended.len() < MOST_SHOWN || self.ended.contains_key(&at) {
                    add(self.ended.entry(at).or_default(), &method);
                }
            }
        }
        let mut sums: BTreeMap<(&ServiceName, &str), ShadowedMethod> = BTreeMap::new();
        let ended = self.ended.iter().map(|((service, name), it)| ((service, name.as_str()), it));
        let told =
            self.told.iter().flat_map(|((_, service), it)| it.iter().map(move |it| ((service, &*it.method), it)));
        for (at, method) in ended.chain(told) {
            if sums.len() < MOST_SHOWN || sums.contains_key(&at) {
                add(sums.entry(at).or_default(), method);
            }
        }
        self.shown = sums.into_iter().map(|((service, method), it)| shown(service, method, &it)).collect();
        self.news = false;
    }
}

impl State {
    pub(super) fn plan_shadow(&self, tenant: &TenantName, module: &ModuleName, percent: u32) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let beside = module.record.beside.clone().ok_or_else(|| refuse::nothing_beside(module))?;
        if percent > 100 {
            return Err(refuse::bad_share(percent));
        }
        let shadow_run = if beside.shadow == 0 && percent > 0 { self.operations.next_order } else { beside.shadow_run };
        let beside = Some(BesideRecord { shadow: percent, shadow_run, ..beside });
        let record = ModuleRecord { beside, ..module.record.clone() };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    /// Which of a caller's calls, whose targets are these, are also sent to the version beside. Only callers of the module's own tenant
    /// are asked to: what they tell of it is shown to the tenant.
    pub(super) fn shadow_route(
        &self,
        id: WorkerId,
        service: &ServiceName,
        targets: &[ChannelId],
    ) -> Option<ShadowRoute> {
        let caller = self.slots.get(id)?;
        let module = self.modules.get(self.publisher(&caller.key.tenant, service)?)?;
        let beside = module.record.beside.as_ref().filter(|it| it.shadow > 0 && !module.withheld)?;
        if module.record.key.tenant != caller.key.tenant {
            return None;
        }
        let callee = |it: &ChannelId| self.slots.get(self.channels.get(it)?.edge.callee);
        let is_beside = |it: &Worker| it.cohort == beside.cohort && self.share(it) > 0;
        let channels: Vec<_> = targets.iter().copied().filter(|it| callee(it).is_some_and(is_beside)).collect();
        (!channels.is_empty()).then_some(ShadowRoute { run: beside.shadow_run, percent: beside.shadow, channels })
    }

    /// What has come of the comparison with the version beside, if there is or was one.
    pub(super) fn shadow_report(&self, module: &Module) -> Option<ShadowReport> {
        let beside = module.record.beside.as_ref().filter(|it| it.shadow_run > 0)?;
        let told = self.shadowings.get(&module.record.key).filter(|it| it.run == beside.shadow_run);
        Some(ShadowReport {
            version: module.record.version.clone(),
            beside: beside.version.clone(),
            percent: beside.shadow,
            methods: told.map(|it| it.shown.clone()).unwrap_or_default(),
        })
    }

    /// The comparison of a module is this one from now on; 0: there is none.
    pub(super) fn turn_shadowing_to(&mut self, key: &ModuleKey, run: u64) {
        if self.shadowings.get(key).is_some_and(|it| it.run != run) {
            self.shadowings.remove(key);
        }
    }

    /// A caller tells of a comparison. What is not of the one that there is, or cannot be told by an honest caller, changes nothing.
    pub(super) fn shadowed(&mut self, id: WorkerId, shadowed: Shadowed, turn: &mut Turn<'_>) {
        let Some(caller) = self.slots.get(id).filter(|it| it.calls()) else { return };
        let tenant = &caller.key.tenant;
        let calls = caller.called_services().any(|it| *it == shadowed.service);
        let publisher = self.publisher(tenant, &shadowed.service).filter(|it| calls && it.tenant == *tenant);
        let Some(key) = publisher.filter(|_| is_sound(&shadowed)).cloned() else { return };
        let runs = |it: &Module| it.record.beside.as_ref().is_some_and(|it| it.shadow_run == shadowed.run);
        if shadowed.run == 0 || !self.modules.get(&key).is_some_and(runs) {
            return;
        }
        let new = || Shadowing { run: shadowed.run, ..Shadowing::default() };
        let shadowing = self.shadowings.entry(key.clone()).or_insert_with(new);
        shadowing.told.insert((id, shadowed.service), shadowed.methods);
        shadowing.news = true;
        if !shadowing.waits {
            self.show_shadowing(&key, turn);
        }
    }

    /// What callers have told meanwhile is shown, and what comes soon after it waits.
    pub(super) fn show_shadowing(&mut self, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(shadowing) = self.shadowings.get_mut(key) else { return };
        shadowing.waits = shadowing.news;
        if !shadowing.news {
            return;
        }
        shadowing.sum_up(|it| self.slots.get(it).is_some_and(Worker::alive));
        turn.timer(Timer::Shadowing(key.clone()), SHOW);
        // Marks the module: it is shown otherwise than before.
        self.modules.get_mut(key);
    }
}

/// Whether an honest caller can have told this.
fn is_sound(shadowed: &Shadowed) -> bool {
    let is_text = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    let method = |it: &ShadowedMethod| {
        let latencies = [&it.charge_latency_log2, &it.beside_latency_log2];
        !it.method.is_empty()
            && is_text(&it.method, MOST_NAME)
            && latencies.iter().all(|it| it.len() <= BUCKETS)
            && it.examples.iter().all(|it| is_text(&it.path, MOST_PATH))
    };
    let examples: usize = shadowed.methods.iter().map(|it| it.examples.len()).sum();
    shadowed.methods.len() <= MOST_METHODS && examples <= MOST_EXAMPLES && shadowed.methods.iter().all(method)
}

fn add(sum: &mut ShadowedMethod, more: &ShadowedMethod) {
    sum.equal = sum.equal.saturating_add(more.equal);
    sum.different = sum.different.saturating_add(more.different);
    sum.failed = sum.failed.saturating_add(more.failed);
    sum.skipped = sum.skipped.saturating_add(more.skipped);
    add_all(&mut sum.charge_latency_log2, &more.charge_latency_log2);
    add_all(&mut sum.beside_latency_log2, &more.beside_latency_log2);
    let room = MOST_EXAMPLES.saturating_sub(sum.examples.len());
    sum.examples.extend(more.examples.iter().take(room).cloned());
}

fn add_all(sums: &mut Vec<u64>, more: &[u64]) {
    sums.resize(sums.len().max(more.len()), 0);
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

fn shown(service: &ServiceName, method: &str, it: &ShadowedMethod) -> ShadowMethod {
    ShadowMethod {
        service: service.clone(),
        method: method.to_owned(),
        compared: it.equal.saturating_add(it.different).saturating_add(it.failed),
        equal: it.equal,
        different: it.different,
        failed: it.failed,
        skipped: it.skipped,
        charge: percentiles(&it.charge_latency_log2),
        beside: percentiles(&it.beside_latency_log2),
        examples: it.examples.iter().map(example).collect(),
    }
}

fn percentiles(latency_log2: &[u64]) -> Percentiles {
    let buckets = std::array::from_fn(|i| latency_log2.get(i).copied().unwrap_or(0));
    Percentiles { p50_ns: quantile(&buckets, 50), p99_ns: quantile(&buckets, 99) }
}

fn example(it: &Difference) -> ShadowExample {
    ShadowExample {
        path: it.path.clone(),
        charge: words(it.charge),
        beside: words(it.beside),
        charge_bytes: it.charge_bytes,
        beside_bytes: it.beside_bytes,
        charge_ns: it.charge_ns,
        beside_ns: it.beside_ns,
    }
}

fn words(piece: Piece) -> String {
    match piece {
        Piece::Absent => "nothing there".to_owned(),
        Piece::Nothing => "none".to_owned(),
        Piece::Truth => "a truth value".to_owned(),
        Piece::Number => "a number".to_owned(),
        Piece::Text(len) => format!("text of {len} bytes"),
        Piece::Bytes(len) => format!("{len} bytes"),
        Piece::List(len) => format!("a list of {len}"),
        Piece::Map(len) => format!("a map of {len}"),
        Piece::Structure(len) => format!("a structure of {len} fields"),
        Piece::Variant(index) => format!("variant {index}"),
        Piece::Answer => "an answer".to_owned(),
        Piece::Fault => "its own error".to_owned(),
        Piece::Late => "no answer by the deadline".to_owned(),
        Piece::Died => "no answer: the worker ended".to_owned(),
        Piece::Internal => "no answer: the method panicked, or the like".to_owned(),
        Piece::Refused => "no answer: the call was refused".to_owned(),
        Piece::Unreadable => "an answer that the caller does not understand".to_owned(),
        Piece::Long => "an answer too long to look into".to_owned(),
    }
}
