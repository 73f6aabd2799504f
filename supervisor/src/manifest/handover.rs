//! `[handover]`: that a module's worker gives its state to the version that replaces it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bounds;
use super::check::Check;
use super::file::{HandoverFile, ManifestFile, RuntimeKind};
use super::quantity::{show_bytes, show_duration};
use super::structure::KeyPath;
use super::types::Limits;

/// What holds without another word of the author's.
const BYTES: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// How state is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The version of the state that is written.
    pub version: u32,
    /// Those that can be read.
    pub accepts: BTreeSet<u32>,
    /// The most bytes of it.
    pub max_bytes: u64,
    /// How long calls may wait for all of it.
    pub timeout: Duration,
}

pub(super) fn read(
    check: &mut Check,
    file: &HandoverFile,
    manifest: &ManifestFile,
    limits: &Limits,
    offers_http: bool,
) -> Option<Handover> {
    let root = KeyPath::default().key("handover");
    possible(check, &root, manifest, offers_http);
    let number = |check: &mut Check, key: &KeyPath, value: i64| {
        let number = u32::try_from(value).ok();
        if number.is_none() {
            check.refuse(key, value, "is out of range", format!("0 to {}", bounds::STATE_VERSION_MAX));
        }
        number
    };
    let version = match file.version {
        Some(value) => number(check, &root.key("version"), value),
        None => {
            check.missing(&root, "version", "version = 1");
            None
        }
    };
    let key = root.key("accepts");
    let accepts = match &file.accepts {
        None => version.into_iter().collect(),
        Some(list) => {
            check.count(&key, list.len());
            if list.is_empty() {
                check.problem(&key, "`handover.accepts` is empty: no state could be read", "the versions, like [1, 2]");
            }
            list.iter().enumerate().filter_map(|(at, value)| number(check, &key.index(at), *value)).collect()
        }
    };
    let most = bounds::STATE_BYTES_MAX.min(limits.memory / 2);
    let key = root.key("max_bytes");
    let max_bytes = check.bytes(&key, file.max_bytes.as_deref(), BYTES.min(most), 1);
    if max_bytes > most {
        let why = "is more than can be handed over: it is charged to the worker beside what it has already";
        check.refuse(
            &key,
            show_bytes(max_bytes),
            why,
            format!("at most half of limits.memory, here {}", show_bytes(most)),
        );
    }
    let key = root.key("timeout");
    let timeout = check.duration(&key, file.timeout.as_deref(), TIMEOUT);
    if timeout > bounds::HANDOVER_MAX {
        let allowed = format!("at most {}", show_duration(bounds::HANDOVER_MAX));
        check.refuse(&key, show_duration(timeout), "is longer than calls should wait", allowed);
    }
    Some(Handover { version: version?, accepts, max_bytes, timeout })
}

/// Who can hand anything over: one worker, whose calls the supervisor can hold back.
fn possible(check: &mut Check, root: &KeyPath, manifest: &ManifestFile, offers_http: bool) {
    if manifest.runtime.is_some_and(|it| it != RuntimeKind::Sdk) {
        let message = "`handover` is there, but only a program built with the SDK hands state over";
        check.problem(root, message, "no `handover`, or runtime = \"sdk\"");
    } else if offers_http {
        let message =
            "`handover` is there, but a service of this module is offered by HTTP, whose requests do not wait for it";
        check.problem(root, message, "the state in a module of its own, which this one calls");
    } else if manifest.instances.is_some_and(|it| it > 1) {
        let message = "`handover` is there, but the state of several instances is not one";
        check.problem(root, message, "instances = 1, or no `handover`");
    }
}
