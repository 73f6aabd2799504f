//! Which modules `READY=1` waits for, and which of them are missing.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::api::{Desired, ModuleStatus, RuntimeKind, Snapshot, WorkerState};
use crate::lifecycle::ModuleKey;

/// What is asked for: `[readiness]` of mortise.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    /// The modules that are to be ready.
    pub modules: Vec<ModuleKey>,
    /// How long they are waited for.
    pub within: Duration,
}

/// A module that is to be ready and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    module: ModuleKey,
    reason: String,
    outlook: Outlook,
}

/// Whether waiting is of any use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// It is on its way.
    Coming,
    /// Nothing will come without an operator.
    Stuck,
}

/// Returns when none is missing that will come by itself, or the time is over; with those that are missing then. Each time that others
/// are missing, `tell` is told.
pub(super) async fn reached(
    within: Duration,
    changes: &mut watch::Receiver<u64>,
    missing: impl Fn() -> Vec<Missing>,
    mut tell: impl FnMut(&[Missing]),
) -> Vec<Missing> {
    let deadline = Instant::now() + within;
    let mut told = Vec::new();
    loop {
        // Before looking: what changes meanwhile is a change.
        changes.mark_unchanged();
        let now = missing();
        if now.iter().all(|it| it.outlook == Outlook::Stuck) {
            return now;
        }
        if now != told {
            tell(&now);
            told.clone_from(&now);
        }
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return now,
        }
    }
}

/// Those of `modules` that are not ready. A module is ready with its first worker that is; one that only has resources, with the first
/// of them that is loaded.
pub(super) fn missing(modules: &[ModuleKey], state: &Snapshot) -> Vec<Missing> {
    let judge = |key: &ModuleKey| {
        let loaded = state.resources.iter().any(|it| it.tenant == key.tenant && it.module == key.module);
        let (outlook, reason) = lacks(status_of(key, state), loaded)?;
        Some(Missing { module: key.clone(), reason, outlook })
    };
    modules.iter().filter_map(judge).collect()
}

/// The same at a start: a module that the ingress offers is reached only when every base has been told.
pub(super) fn unreached(modules: &[ModuleKey], state: &Snapshot) -> Vec<Missing> {
    let mut unreached = missing(modules, state);
    if !state.ingress_behind {
        return unreached;
    }
    for key in modules {
        let offers = |it: &ModuleStatus| it.services.iter().any(|it| it.published && it.http.is_some());
        if status_of(key, state).is_some_and(offers) && unreached.iter().all(|it| it.module != *key) {
            let reason = "the base has not taken its routes yet".into();
            unreached.push(Missing { module: key.clone(), reason, outlook: Outlook::Coming });
        }
    }
    unreached
}

fn status_of<'a>(key: &ModuleKey, state: &'a Snapshot) -> Option<&'a ModuleStatus> {
    state.modules.iter().find(|it| it.tenant == key.tenant && it.module == key.module).map(|it| &**it)
}

fn lacks(status: Option<&ModuleStatus>, loaded: bool) -> Option<(Outlook, String)> {
    let Some(status) = status else { return Some((Outlook::Stuck, "it is not installed".into())) };
    if status.desired == Desired::Installed {
        return Some((Outlook::Stuck, "it is stopped".into()));
    }
    let ready = match status.runtime {
        Some(RuntimeKind::Resource) => loaded,
        Some(RuntimeKind::Sdk | RuntimeKind::Http | RuntimeKind::Base) | None => {
            status.workers.iter().any(|it| matches!(it.state, WorkerState::Ready | WorkerState::Published))
        }
    };
    if ready {
        return None;
    }
    let reason = status.workers.iter().find_map(|it| it.reason.clone());
    let ended = |state| matches!(state, WorkerState::Failed | WorkerState::Exited);
    if !status.workers.is_empty() && status.workers.iter().all(|it| ended(it.state)) {
        return Some((Outlook::Stuck, reason.unwrap_or_else(|| "it has ended".into())));
    }
    Some((Outlook::Coming, reason.unwrap_or_else(|| "it is starting".into())))
}

/// For people: `default/site (it is starting)`.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.module, self.reason)
    }
}

/// For people, in one line.
pub(super) fn list(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::api::{ServiceStatus, WorkerStatus};

    fn key(module: &str) -> ModuleKey {
        ModuleKey { tenant: "default".parse().unwrap(), module: module.parse().unwrap() }
    }

    fn module(name: &str, desired: Desired, states: &[WorkerState]) -> Arc<ModuleStatus> {
        let worker = |state: &WorkerState| WorkerStatus {
            worker: "0.1".into(),
            version: semver::Version::new(1, 0, 0),
            state: *state,
            reason: matches!(state, WorkerState::Failed | WorkerState::Backoff).then(|| "exit status 1".into()),
            pid: None,
            since: Timestamp::UNIX_EPOCH,
            restarts: 0,
            oom_kills: 0,
            memory_bytes: 0,
            cpu_usec: 0,
            pressure: None,
            pids: 0,
            limits: crate::api::LimitsStatus::default(),
            figures: Vec::new(),
            kept: None,
        };
        let ModuleKey { tenant, module } = key(name);
        Arc::new(ModuleStatus {
            tenant,
            module,
            runtime: Some(RuntimeKind::Sdk),
            desired,
            version: None,
            beside: None,
            beside_share: None,
            beside_paused: false,
            beside_shadow: None,
            shadow: None,
            limits: crate::api::ModuleLimits::default(),
            installed: Vec::new(),
            services: Vec::new(),
            workers: states.iter().map(worker).collect(),
        })
    }

    #[test]
    fn who_is_missing_and_whether_it_will_come() {
        use WorkerState::{Backoff, Draining, Exited, Failed, Published, Ready, Starting};
        let (run, installed) = (Desired::Running, Desired::Installed);
        for (desired, states, expected) in [
            (run, &[][..], Some((Outlook::Coming, "it is starting"))),
            (run, &[Starting], Some((Outlook::Coming, "it is starting"))),
            (run, &[Backoff, Starting], Some((Outlook::Coming, "exit status 1"))),
            (run, &[Failed, Starting], Some((Outlook::Coming, "exit status 1"))),
            (run, &[Failed, Exited], Some((Outlook::Stuck, "exit status 1"))),
            (run, &[Exited], Some((Outlook::Stuck, "it has ended"))),
            (run, &[Starting, Ready], None),
            (run, &[Draining, Published], None),
            (installed, &[], Some((Outlook::Stuck, "it is stopped"))),
            (installed, &[Draining], Some((Outlook::Stuck, "it is stopped"))),
        ] {
            let state = Snapshot { modules: vec![module("site", desired, states)], ..Snapshot::default() };
            let expected =
                expected.map(|(outlook, reason)| Missing { module: key("site"), reason: reason.into(), outlook });
            assert_eq!(missing(&[key("site")], &state), expected.into_iter().collect::<Vec<_>>(), "{states:?}");
        }
        let offered =
            ServiceStatus { service: "site".parse().unwrap(), published: true, http: Some("/site".into()), callers: 0 };
        let mut site = Arc::unwrap_or_clone(module("site", run, &[Ready]));
        site.services = vec![offered];
        let modules = vec![Arc::new(site), module("spell", run, &[Ready])];
        let mut state = Snapshot { modules, ingress_behind: true, ..Snapshot::default() };
        let both = [key("site"), key("spell")];
        assert_eq!(list(&unreached(&both, &state)), "default/site (the base has not taken its routes yet)");
        assert_eq!(missing(&both, &state), [], "it is no trouble later");
        state.ingress_behind = false;
        assert_eq!(unreached(&both, &state), []);
        let nobody = missing(&[key("site"), key("spell")], &Snapshot::default());
        assert_eq!(list(&nobody), "default/site (it is not installed), default/spell (it is not installed)");
    }

    /// A module that comes after so many changes, if at all, and what was told until it was given up.
    async fn wait(comes_after: u64, changes: u64) -> (Vec<Missing>, usize) {
        let (change, mut changed) = watch::channel(0);
        let seen = Cell::new(0);
        let look = || {
            seen.set(*change.borrow());
            let states = [if seen.get() < comes_after { WorkerState::Starting } else { WorkerState::Ready }];
            let modules = vec![module("site", Desired::Running, &states)];
            missing(&[key("site")], &Snapshot { modules, ..Snapshot::default() })
        };
        let mut told = 0;
        let reached = reached(Duration::from_secs(60), &mut changed, look, |_| told += 1);
        let happens = async {
            for _ in 0..changes {
                tokio::time::sleep(Duration::from_secs(1)).await;
                change.send_modify(|it| *it += 1);
            }
            std::future::pending::<()>().await;
        };
        let left = tokio::select! { left = reached => left, () = happens => unreachable!("it is pending") };
        (left, told)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_waited_for_as_long_as_there_is_time() {
        let begin = Instant::now();
        assert_eq!(wait(3, 10).await, (Vec::new(), 1));
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
        let (left, told) = wait(u64::MAX, 10).await;
        assert_eq!((list(&left).as_str(), told), ("default/site (it is starting)", 1));
        assert_eq!(begin.elapsed(), Duration::from_secs(63));
        assert_eq!(wait(0, 0).await, (Vec::new(), 0));
        assert_eq!(begin.elapsed(), Duration::from_secs(63));
    }
}
