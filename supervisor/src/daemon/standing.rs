//! From the start to the end of the supervisor: what the service manager is told of how it stands.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use mortise_control::TenantName;
use tokio::signal::unix::Signal;

use super::base::{self, Condition};
use super::notify;
use super::reload::Reload;
use crate::engine::{Controls, EngineHandle};
use crate::package::Installed;

/// How it stands. What it shows is the status for the service manager.
struct Standing {
    base: Condition,
    /// How many things were wrong with mortise.toml when it was read the last time.
    refused: usize,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)?;
        match self.refused {
            0 => Ok(()),
            1 => f.write_str("; mortise.toml was refused (1 error, see the log): what was in force still is"),
            many => write!(f, "; mortise.toml was refused ({many} errors, see the log): what was in force still is"),
        }
    }
}

/// Waits until all of an earlier life is found or known to be gone, brings up the base, says that the supervisor is ready, and then
/// for ever how the base does. A SIGHUP before that is heard then.
pub(super) async fn keep(
    handle: &EngineHandle,
    controls: &Controls,
    base: Option<Installed>,
    fresh: &[SocketAddr],
    (reload, hangups, http_folder): (&mut Reload, &mut Signal, &Path),
) {
    controls.settled().await;
    let module = base.as_ref().map(|it| it.manifest.name.clone());
    let tenant = TenantName::new("default").unwrap_or_else(|_| unreachable!("a literal that is a name"));
    let mut standing = Standing { base: Condition::Serves, refused: 0 };
    if let Some(base) = base {
        notify::status("starting the base");
        if let Err(reason) = base::bring_up(handle, tenant.clone(), base).await {
            tracing::error!(reason, "the base does not serve");
            standing.base = Condition::Fails(reason);
        }
    }
    for address in fresh {
        tracing::warn!(%address, "the running base does not listen there yet; `mortise restart` of the base hands it over");
    }
    tracing::info!("{standing}");
    notify::ready(&standing.to_string());
    let mut changes = handle.changes();
    loop {
        tokio::select! {
            condition = base::changed(handle, &mut changes, &tenant, module.as_ref(), &standing.base) => {
                standing.base = condition;
                notify::status(&standing.to_string());
            }
            Some(()) = hangups.recv() => {
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
                notify::ready(&standing.to_string());
            }
        }
    }
}
