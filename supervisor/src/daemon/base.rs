//! The base of `--base`: installed, started and published like any other module, each step harmless when it was done before.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mortise_control::{ModuleName, TenantName};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::{StartError, notify};
use crate::api::{Desired, ModuleStatus, Operation, OperationState, Request, Snapshot, WorkerState};
use crate::engine::EngineHandle;
use crate::manifest::{Manifest, Runtime};
use crate::package::{Installed, PackageStore, fingerprint};

/// How long each of its operations may take, beyond what its own module.toml allows it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The file in the state folder that tells which package was made of the folder that `--base` names.
const NOTE: &str = "base.json";

/// Where it is written first.
const NEW_NOTE: &str = "base.json.new";

/// A folder that was packed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    folder: PathBuf,
    fingerprint: String,
    digest: String,
}

/// The base of `--base`, not taken in yet.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub path: &'a Path,
    pub state: &'a Path,
    pub packages: &'a Arc<PackageStore>,
    /// As far as [`look`] could say.
    pub module: Option<ModuleName>,
}

impl Wanted<'_> {
    /// Takes it in, off the loop: modules and the admin API do not wait for it.
    ///
    /// # Errors
    /// For people.
    pub async fn take_in(&self) -> Result<Installed, String> {
        notify::starting("reading the package of the base", notify::STEP);
        let (path, state) = (self.path.to_owned(), self.state.to_owned());
        let packages = Arc::clone(self.packages);
        let taken = tokio::task::spawn_blocking(move || take_in(&path, &state, &packages)).await;
        taken.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// What the folder `--base` names says that it is, if it can be read: whatever is wrong with it besides is told when it is taken in. Blocks.
///
/// # Errors
/// [`StartError::Package`]: it is no base, so the argument is wrong.
pub(super) fn look(path: &Path) -> Result<Option<ModuleName>, StartError> {
    let Ok((manifest, _)) = fingerprint(path) else { return Ok(None) };
    is_base(path, &manifest)?;
    Ok(Some(manifest.name))
}

fn is_base(path: &Path, manifest: &Manifest) -> Result<(), StartError> {
    match manifest.runtime {
        Runtime::Base(_) => Ok(()),
        Runtime::Sdk(_) | Runtime::Http(..) | Runtime::Resource => Err(StartError::Package {
            path: path.into(),
            problem: format!("the module {} is no base; a base has runtime = \"base\"", manifest.name),
        }),
    }
}

/// Takes the package of the base in. A folder that is as it was is not packed again: that takes seconds, and a start shall not. Blocks.
fn take_in(path: &Path, state: &Path, packages: &PackageStore) -> Result<Installed, StartError> {
    if !path.is_dir() {
        let file = File::open(path).map_err(StartError::file("open the package of the base", path))?;
        let installed = packages.install(file)?;
        is_base(path, &installed.manifest)?;
        return Ok(installed);
    }
    let folder = path.canonicalize().map_err(StartError::file("find the folder", path))?;
    let (_, before) = fingerprint(&folder)?;
    if let Some(installed) = before.as_ref().and_then(|it| packed_before(&folder, it, state, packages)) {
        is_base(path, &installed.manifest)?;
        return Ok(installed);
    }
    let installed = packages.install_packed(&folder)?;
    is_base(path, &installed.manifest)?;
    // It is what it was when its fingerprint was taken, or this is not its package's.
    if let (Some(before), Ok((_, Some(after)))) = (before, fingerprint(&folder))
        && before == after
    {
        let note = Note { folder, fingerprint: after, digest: installed.digest.to_string() };
        if let Err(error) = write(&note, state) {
            tracing::warn!(%error, "the next start packs the base again");
        }
    }
    Ok(installed)
}

fn packed_before(folder: &Path, fingerprint: &str, state: &Path, packages: &PackageStore) -> Option<Installed> {
    let note: Note = serde_json::from_slice(&fs::read(state.join(NOTE)).ok()?).ok()?;
    if note.folder != folder || note.fingerprint != fingerprint {
        return None;
    }
    packages.find(&note.digest.parse().ok()?).ok()
}

/// Not synced: a note that a power cut has torn is none, and the folder is packed again.
fn write(note: &Note, state: &Path) -> io::Result<()> {
    let new = state.join(NEW_NOTE);
    fs::write(&new, serde_json::to_vec_pretty(note)?)?;
    fs::rename(new, state.join(NOTE))
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
            Request::Swap { tenant, module, version, keep_ms: None, rollout: None, without_state: false }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FILE_NAME;

    #[test]
    fn a_folder_that_is_as_it_was_is_not_packed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (base, state) = (folder.path().join("base"), folder.path().join("state"));
        let packages = PackageStore::open(&state.join("packages")).unwrap();
        let manifest = |version: &str| {
            let text = format!("name = \"base\"\nversion = \"{version}\"\nruntime = \"base\"\nexec = \"/bin/false\"\n");
            fs::write(base.join(FILE_NAME), text).unwrap();
            // What has changed only now is not noted; nothing but waiting makes it older.
            while fingerprint(&base).unwrap().1.is_none() {}
        };
        fs::create_dir(&base).unwrap();
        manifest("1.0.0");
        let first = take_in(&base, &state, &packages).unwrap();
        let noted: Note = serde_json::from_slice(&fs::read(state.join(NOTE)).unwrap()).unwrap();
        assert_eq!(noted.digest, first.digest.to_string());

        manifest("1.0.1");
        let second = take_in(&base, &state, &packages).unwrap();
        assert_ne!(second.digest, first.digest, "it has changed");
        // Had it been packed, this would be its own package, and not what the note says.
        let note: Note = serde_json::from_slice(&fs::read(state.join(NOTE)).unwrap()).unwrap();
        write(&Note { digest: noted.digest, ..note }, &state).unwrap();
        assert_eq!(take_in(&base, &state, &packages).unwrap().digest, first.digest);
        // A package that is gone, a note that is none.
        packages.remove(&first.digest).unwrap();
        assert_eq!(take_in(&base, &state, &packages).unwrap().digest, second.digest);
        fs::write(state.join(NOTE), "{").unwrap();
        assert_eq!(take_in(&base, &state, &packages).unwrap().digest, second.digest);
    }

    #[test]
    fn only_what_says_that_it_is_no_base_is_a_wrong_argument() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path()).unwrap(), None);
        assert_eq!(look(&folder.path().join("absent")).unwrap(), None);
        let manifest = |runtime: &str| {
            let text = format!("name = \"it\"\nversion = \"1.0.0\"\nruntime = \"{runtime}\"\nexec = \"/bin/false\"\n");
            fs::write(folder.path().join(FILE_NAME), text).unwrap();
            look(folder.path())
        };
        assert_eq!(manifest("base").unwrap().unwrap().as_str(), "it");
        assert!(manifest("sdk").unwrap_err().is_lasting());
    }
}
