//! The admin API: HTTP and JSON over a Unix socket.
//!
//! ```text
//! connection ──SO_PEERCRED──▶ Caller (role) ──▶ router ──▶ modules, operations, packages, streams … ──▶ EngineHandle
//!   serve.rs              roles.rs, caller.rs   routes.rs        one file a subject
//! ```
//!
//! Every error is an [`ApiError`](crate::api::ApiError) as JSON with the status of its code. `GET /openapi.json` describes all of it.

mod bounds;
mod call;
mod caller;
mod error;
mod extract;
mod groups;
mod host;
mod metrics;
mod modules;
mod operations;
mod packages;
mod reserve;
mod roles;
#[cfg(test)]
mod roles_tests;
mod routes;
mod routing;
mod serve;
mod shutdown;
mod streams;
mod tenants;
mod upgrade;

pub use caller::{Access, Caller};
pub use operations::Submit;
pub use roles::{Role, Roles};
pub use routes::openapi;
pub use serve::serve;
pub use shutdown::{Shutdown, Stopped};
pub use upgrade::{Upgrade, Upgrading};

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{RwLock, Semaphore, watch};

use crate::doctor::Places;
use crate::engine::EngineHandle;
use crate::package::PackageStore;

/// What the admin API stands on.
#[derive(Clone, Debug)]
pub struct AdminApi {
    /// The engine.
    pub handle: EngineHandle,
    /// The packages of this host.
    pub packages: Arc<PackageStore>,
    /// Where `GET /v1/doctor` looks.
    pub doctor: Places,
    /// What [`host::probe`](crate::host::probe) found when the supervisor started.
    pub promises: Arc<crate::host::Report>,
    /// How an orderly end is asked for.
    pub shutdown: Shutdown,
    /// Who has a role, from the next request on.
    pub roles: Arc<ArcSwap<Roles>>,
}

/// What every handler sees.
#[derive(Clone, Debug)]
struct Shared {
    api: Arc<AdminApi>,
    /// Places for packages that arrive.
    uploads: Arc<Semaphore>,
    /// Read while a package is on its way from the store into the engine's register, written to remove one that did not get there.
    arriving: Arc<RwLock<()>>,
    /// Turns true when the server stops: streams end then.
    stopping: watch::Receiver<bool>,
}

impl Shared {
    fn new(api: AdminApi, stopping: watch::Receiver<bool>) -> Self {
        let uploads = Arc::new(Semaphore::new(bounds::UPLOADS));
        Self { api: Arc::new(api), uploads, arriving: Arc::default(), stopping }
    }
}

/// Returns when the server is to stop (or is gone).
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The guard must not live on: it is a lock.
    let _ = stopping.wait_for(|it| *it).await.map(|it| *it);
}
