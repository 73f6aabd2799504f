//! From the start to the end of the supervisor: what the service manager is told of how it stands.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mortise_control::{ModuleName, TenantName};
use tokio::signal::unix::Signal;

use super::base::{self, Condition};
use super::candidate::{self, Candidate};
use super::notify;
use super::readiness::{self, Missing};
use super::reload::Reload;
use crate::admin::Shutdown;
use crate::api::{ApiError, Snapshot};
use crate::engine::{Controls, EngineHandle};
use crate::host::Promise;
use crate::lifecycle::{ModuleKey, default_tenant};
use crate::store::Rebuilt;

/// How it stands. What it shows is the status for the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    base: Condition,
    /// Of the modules that are to be ready.
    missing: Vec<Missing>,
    /// What the operator has allowed this host not to keep. What is not required is in `mortise status` alone.
    not_kept: Vec<Promise>,
    /// How many things were wrong with mortise.toml when it was read the last time.
    refused: usize,
    /// The store was damaged at the start: what became of it.
    rebuilt: Option<String>,
    /// Why the program that was installed meanwhile did not take over.
    unfit: Option<String>,
}

impl Standing {
    /// Looks again. Whether it is another one.
    fn look(&mut self, state: &Snapshot, base: Option<(&TenantName, &ModuleName)>, required: &[ModuleKey]) -> bool {
        let before = self.clone();
        if let Some((tenant, module)) = base {
            self.base = base::condition(state, tenant, module, &before.base);
        }
        self.missing = readiness::missing(required, state);
        *self != before
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.base, self.missing.as_slice()) {
            (Condition::Serves, []) => f.write_str("ready")?,
            (Condition::Fails(reason), []) => write!(f, "degraded: the base does not serve: {reason}")?,
            (Condition::Serves, missing) => write!(f, "degraded: not ready: {}", readiness::list(missing))?,
            (Condition::Fails(reason), missing) => {
                write!(f, "degraded: not ready: {}; the base does not serve: {reason}", readiness::list(missing))?;
            }
        }
        if !self.not_kept.is_empty() {
            let names: Vec<_> = self.not_kept.iter().map(|it| it.name()).collect();
            write!(f, "; not kept on this host: {}", names.join(", "))?;
        }
        if let Some(rebuilt) = &self.rebuilt {
            write!(f, "; {rebuilt}")?;
        }
        if let Some(unfit) = &self.unfit {
            write!(f, "; the mortised that was installed is refused, and the one before goes on: {unfit}")?;
        }
        match self.refused {
            0 => Ok(()),
            1 => f.write_str("; mortise.toml was refused (1 error, see the log): what was in force still is"),
            many => write!(f, "; mortise.toml was refused ({many} errors, see the log): what was in force still is"),
        }
    }
}

/// What it takes to become the program that has been put in the place of this one.
#[derive(Debug)]
pub(super) struct Replacing<'a> {
    pub shutdown: &'a Shutdown,
    pub state: &'a Path,
}

impl Replacing<'_> {
    /// Looks whether there is another program, and if so asks for it.
    ///
    /// # Errors
    /// It is not fit, and this one goes on.
    async fn look(&self) -> Result<(), ApiError> {
        let Some(path) = candidate::replaced() else { return Ok(()) };
        notify::reloading("checking the mortised that was installed");
        let candidate = Candidate::examine(&path, self.state).await?;
        tracing::info!(binary = %path.display(), to = candidate.version(), "becoming another mortised");
        self.shutdown.become_other(Arc::new(candidate))
    }
}

/// Waits until all of an earlier life is found or known to be gone, brings up the base, waits for the modules that are to be ready, says
/// that the supervisor is ready, and then for ever how it stands. A SIGHUP before that is heard then.
pub(super) async fn keep(
    handle: &EngineHandle,
    controls: &Controls,
    base: Option<base::Wanted<'_>>,
    fresh: &[SocketAddr],
    (reload, hangups, http_folder): (&mut Reload, &mut Signal, &Path),
    replacing: &Replacing<'_>,
    rebuilt: Option<&Rebuilt>,
) {
    controls.settled().await;
    let tenant = default_tenant();
    // `NAME: WHY`.
    let not_kept = |it: &String| it.split(':').next()?.parse().ok().filter(|it: &Promise| it.is_required());
    let not_kept = handle.state().host.degraded.iter().filter_map(not_kept).collect();
    let mut standing = Standing {
        base: Condition::Serves,
        missing: Vec::new(),
        not_kept,
        refused: 0,
        rebuilt: rebuilt.map(ToString::to_string),
        unfit: None,
    };
    let mut module = base.as_ref().and_then(|it| it.module.clone());
    if let Some(base) = base {
        let brought_up = match base.take_in().await {
            Ok(base) => {
                module = Some(base.manifest.name.clone());
                base::bring_up(handle, tenant.clone(), base).await
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = brought_up {
            tracing::error!(reason, "the base does not serve");
            standing.base = Condition::Fails(reason);
        }
    }
    for address in fresh {
        tracing::warn!(%address, "the running base does not listen there yet; `mortise restart` of the base hands it over");
    }
    let mut changes = handle.changes();
    let required = &reload.in_force.settings.readiness;
    let missing = || readiness::unreached(&required.modules, &handle.state());
    let tell = |missing: &[Missing]| {
        notify::starting(&format!("waiting for {}", readiness::list(missing)), required.within + notify::MARGIN);
    };
    standing.missing = readiness::reached(required.within, &mut changes, missing, tell).await;
    for missing in &standing.missing {
        tracing::error!("a module of `readiness.modules` is not ready: {missing}");
    }
    tracing::info!("{standing}");
    notify::ready(&standing.to_string());
    let base = module.as_ref().map(|it| (&tenant, it));
    loop {
        tokio::select! {
            Ok(()) = changes.changed() => {
                if standing.look(&handle.state(), base, &reload.in_force.settings.readiness.modules) {
                    notify::status(&standing.to_string());
                }
            }
            Some(()) = hangups.recv() => {
                // Whoever takes over reads them anew.
                standing.unfit = replacing.look().await.err().map(|error| {
                    tracing::error!(%error, "the mortised that was installed is refused, and this one goes on");
                    error.to_string()
                });
                notify::reloading("reading mortise.toml again");
                standing.refused = match reload.again(controls, http_folder).await {
                    Ok(changed) => {
                        tracing::info!(?changed, "mortise.toml is read again");
                        0
                    }
                    Err(refused) => {
                        tracing::error!("mortise.toml is refused, and what was in force still is:\n{refused}");
                        refused.errors()
                    }
                };
                let _ = standing.look(&handle.state(), base, &reload.in_force.settings.readiness.modules);
                notify::ready(&standing.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_all_that_is_less_than_it_should_be() {
        let key = ModuleKey { tenant: "default".parse().unwrap(), module: "site".parse().unwrap() };
        let mut standing = Standing {
            base: Condition::Serves,
            missing: Vec::new(),
            not_kept: Vec::new(),
            refused: 0,
            rebuilt: None,
            unfit: None,
        };
        assert_eq!(standing.to_string(), "ready");
        standing.not_kept = vec![Promise::OwnUid, Promise::CpuLimit];
        assert_eq!(standing.to_string(), "ready; not kept on this host: own-uid, cpu-limit");
        assert!(standing.look(&Snapshot::default(), None, &[key]));
        standing.base = Condition::Fails("exit status 1".into());
        standing.refused = 2;
        assert_eq!(
            standing.to_string(),
            "degraded: not ready: default/site (it is not installed); the base does not serve: exit status 1; \
             not kept on this host: own-uid, cpu-limit; mortise.toml was refused (2 errors, see the log): what was in force still is"
        );
        assert!(standing.look(&Snapshot::default(), None, &[]) && !standing.look(&Snapshot::default(), None, &[]));
    }
}
