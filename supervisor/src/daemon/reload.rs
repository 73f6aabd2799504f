//! SIGHUP: mortise.toml is read again, and all of it is taken or nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Arguments;
use super::log::{self, Filter};
use super::settings::{Complaint, Loaded, Refused};
use crate::admin::Roles;
use crate::engine::Controls;

/// What may change while the supervisor runs. Folders, sockets, uids and promises are what workers that run were started with.
fn may_change(key: &str) -> bool {
    matches!(key, "log" | "remembered_operations")
        || ["timeouts.", "readiness.", "roles."].iter().any(|it| key.starts_with(it))
}

/// What is in force, and what it takes to change it.
#[derive(Debug)]
pub(super) struct Reload {
    /// Still over every file.
    pub arguments: Arguments,
    pub in_force: Loaded,
    pub filter: Filter,
    /// As the admin API looks at them.
    pub roles: Arc<ArcSwap<Roles>>,
}

impl Reload {
    /// Reads everything again and takes it. Returns the keys that have changed.
    ///
    /// # Errors
    /// Nothing has changed.
    pub async fn again(&mut self, controls: &Controls, http_folder: &Path) -> Result<Vec<String>, Refused> {
        let arguments = self.arguments.clone();
        // A file system that hangs is not to stop the loop.
        let read = tokio::task::spawn_blocking(move || Loaded::new(&arguments)).await;
        let next = read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let changed = changed(&self.in_force, &next)?;
        log::change(&self.filter, &next.settings.log);
        open_to_roles(&next.settings.admin_socket(), &next.settings.roles);
        self.roles.store(Arc::new(next.settings.roles.clone()));
        controls.configure(next.settings.policy(http_folder.into())).await;
        self.in_force = next;
        Ok(changed)
    }
}

/// Those who have a role can connect; what they may do is decided for each request.
pub(super) fn open_to_roles(socket: &Path, roles: &Roles) {
    if *roles == Roles::default() {
        return;
    }
    if let Err(error) = fs::set_permissions(socket, Permissions::from_mode(0o666)) {
        tracing::warn!(socket = %socket.display(), %error, "the admin socket cannot be opened to those who have a role");
    }
}

/// The keys with another value.
fn changed(in_force: &Loaded, next: &Loaded) -> Result<Vec<String>, Refused> {
    let before: BTreeMap<_, _> = in_force.settings.keys().into_iter().collect();
    let mut after: BTreeMap<_, _> = next.settings.keys().into_iter().collect();
    let mut changed: Vec<String> = Vec::new();
    for (key, value) in before {
        if after.remove(&key).as_ref() != Some(&value) {
            changed.push(key);
        }
    }
    changed.extend(after.into_keys());
    let fixed: Vec<_> = changed.iter().filter(|it| !may_change(it)).collect();
    if fixed.is_empty() {
        return Ok(changed);
    }
    let complaint = |key: &String| Complaint::Fixed { key: key.clone(), origin: next.origin(key).to_owned() };
    Err(Refused(fixed.into_iter().map(complaint).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn loaded(folder: &Path, text: &str) -> Loaded {
        let config = folder.join("mortise.toml");
        fs::write(&config, text).unwrap();
        Loaded::new(&Arguments { config: Some(config), ..Arguments::default() }).unwrap()
    }

    #[test]
    fn what_has_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let before = loaded(folder.path(), "log = \"warn\"\n[timeouts]\nflip = \"9s\"\nreceipt = \"2000ms\"\n");
        let after =
            loaded(folder.path(), "log = \"debug\"\nremembered_operations = 300\n[timeouts]\nreceipt = \"2s\"\n");
        let names = changed(&before, &after).unwrap();
        assert_eq!(names, ["log", "remembered_operations", "timeouts.flip"], "2000ms is 2s, which is the default");
        assert!(changed(&after, &after).unwrap().is_empty());
    }

    #[test]
    fn what_workers_were_started_with_stays() {
        let folder = tempfile::tempdir().unwrap();
        let before = loaded(folder.path(), "log = \"warn\"\nbase = \"/b\"");
        let after = loaded(folder.path(), "log = \"debug\"\n\nlisten = [\"127.0.0.1:1\"]\nstate = \"/s\"");
        let refused = changed(&before, &after).unwrap_err().to_string();
        for key in ["`base`", "`listen`", "`state`", "mortise.toml:4", "restart to change"] {
            assert!(refused.contains(key), "{key}: {refused}");
        }
        assert!(!refused.contains("`log`"), "{refused}");
    }
}
