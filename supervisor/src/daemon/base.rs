//! The base of `--base`: installed, started and published like any other module, each step harmless when it was done before.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use mortise_control::{ModuleName, TenantName};
use semver::Version;

use super::{StartError, notify};
use crate::api::{Desired, ModuleStatus, Operation, OperationState, Request, Snapshot, WorkerState};
use crate::engine::EngineHandle;
use crate::manifest::Runtime;
use crate::package::{Installed, PackageStore, pack};

/// How long each of its operations may take, beyond what its own module.toml allows it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes the package of the base in. Blocks.
pub(super) fn take_in(path: &Path, state: &Path, packages: &PackageStore) -> Result<Installed, StartError> {
    let file = match path.is_dir() {
        false => File::open(path).map_err(StartError::file("open the package of the base", path))?,
        true => {
            let folder = tempfile::tempdir_in(state).map_err(StartError::file("make a folder in", state))?;
            let out = folder.path().join("base.mortise");
            pack(path, &out)?;
            // The folder may go: the file stays as long as it is open.
            File::open(&out).map_err(StartError::file("open", &out))?
        }
    };
    let installed = packages.install(file)?;
    match installed.manifest.runtime {
        Runtime::Base(_) => Ok(installed),
        Runtime::Sdk(_) | Runtime::Http(..) | Runtime::Resource => Err(StartError::Package {
            path: path.into(),
            problem: format!("the module {} is no base; a base has runtime = \"base\"", installed.manifest.name),
        }),
    }
}

/// Registers, starts and publishes it.
///
/// # Errors
/// Why it does not serve, for people. What was there before goes on.
pub(super) async fn bring_up(handle: &EngineHandle, tenant: TenantName, base: Installed) -> Result<(), String> {
    let (module, version) = (base.manifest.name.clone(), base.manifest.version.clone());
    // Three operations at most.
    notify::starting("starting the base", 3 * PATIENCE + notify::MARGIN);
    done(handle, Request::Install { tenant: tenant.clone(), digest: base.digest.to_string() }).await?;
    let start = start(handle, &tenant, &module, version);
    done(handle, start).await?;
    // The stock base has no service of its own; the ingress is open as soon as it is ready.
    if base.manifest.provides.is_empty() {
        return Ok(());
    }
    done(handle, Request::Publish { tenant, module, service: None }).await
}

/// Whether there is somebody for HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// A base is ready, or none is wanted.
    Serves,
    /// None is, for this reason.
    Fails(String),
}

/// How the base does. As long as it fails, the reason stays the first.
pub(super) fn condition(state: &Snapshot, tenant: &TenantName, module: &ModuleName, last: &Condition) -> Condition {
    let status = state.modules.iter().find(|it| it.tenant == *tenant && it.module == *module);
    let now = judge(status.map(|it| &**it));
    if std::mem::discriminant(&now) == std::mem::discriminant(last) { last.clone() } else { now }
}

fn judge(status: Option<&ModuleStatus>) -> Condition {
    let workers = status.map_or(&[][..], |it| it.workers.as_slice());
    if workers.iter().any(|it| matches!(it.state, WorkerState::Ready | WorkerState::Published)) {
        return Condition::Serves;
    }
    let reason = workers.iter().find_map(|it| it.reason.clone());
    Condition::Fails(reason.unwrap_or_else(|| "it has no worker that is ready".to_owned()))
}

/// Another version that runs is replaced, new before old.
fn start(handle: &EngineHandle, tenant: &TenantName, module: &ModuleName, version: Version) -> Request {
    let state = handle.state();
    let status = state.modules.iter().find(|it| it.tenant == *tenant && it.module == *module);
    let (tenant, module) = (tenant.clone(), module.clone());
    match status {
        Some(it) if it.desired == Desired::Running && it.version.as_ref() != Some(&version) => {
            Request::Swap { tenant, module, version, keep_ms: None }
        }
        Some(_) | None => Request::Start { tenant, module, version: Some(version) },
    }
}

async fn done(handle: &EngineHandle, request: Request) -> Result<(), String> {
    let accepted = handle.submit(None, request).await.map_err(|error| error.to_string())?;
    let ended = handle.wait(&accepted.id, PATIENCE).await;
    match ended {
        Some(Operation { state: OperationState::Done, .. }) => Ok(()),
        Some(Operation { error: Some(error), .. }) => Err(error.to_string()),
        Some(_) => Err(format!("it is not done after {} s", PATIENCE.as_secs())),
        None => Err("its operation is forgotten".into()),
    }
}
