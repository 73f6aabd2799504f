//! From what is written to what holds together: every rule that a single key or two keys together must keep.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use semver::Version;

use crate::api::{Figure, Gate};

use super::bounds;
use super::check::{Check, Problem};
use super::file::{
    ConfigurationValue, GatesFile, HealthFile, HttpFile, LimitsFile, ListenKind, ManifestFile, ProvidesFile,
    RequiresFile, ResourceFileEntry, RestartFile, RuntimeKind, SwapFile, TimeoutsFile,
};
use super::handover;
use super::quantity::show_bytes;
use super::structure::KeyPath;
use super::types::{
    Exec, Health, HttpRoute, Limits, Listen, Manifest, Program, Provided, Requires, ResourceFile, Restart, Runtime,
    Timeouts,
};

impl TryFrom<ManifestFile> for Manifest {
    type Error = Vec<Problem>;

    fn try_from(file: ManifestFile) -> Result<Self, Vec<Problem>> {
        let mut check = Check::default();
        let root = KeyPath::default();
        let name = match &file.name {
            Some(text) => check.name(&root.key("name"), text),
            None => {
                check.missing(&root, "name", "name = \"my-module\"");
                None
            }
        };
        let version = version(&mut check, file.version.as_deref());
        let runtime = runtime(&mut check, &file);
        let files = file.files.as_ref().map(|files| {
            let key = root.key("files");
            check.count(&key, files.len());
            files
                .iter()
                .enumerate()
                .filter_map(|(i, text)| check.path(&key.index(i), text.trim_end_matches('/')))
                .collect()
        });
        let instances = check.integer(&root.key("instances"), file.instances, 1, 1, bounds::INSTANCES_MAX);
        let provides = provides(&mut check, &file.provides, file.runtime);
        let resources = resources(&mut check, &file.resources);
        let requires = requires(&mut check, &file.requires, &provides);
        let limits = limits(&mut check, &file.limits);
        env(&mut check, &file.env);
        let configuration = configuration(&mut check, &file.configuration);
        let offers_http = provides.iter().any(|it| it.http.is_some());
        let health = file.health.as_ref().map(|it| health(&mut check, it, offers_http));
        let timeouts = timeouts(&mut check, &file.timeouts);
        let restart = restart(&mut check, &file.restart);
        let keep = keep(&mut check, &file.swap, file.runtime);
        let gates = gates(&mut check, &file.swap.gates, file.runtime);
        let handover =
            file.handover.as_ref().and_then(|it| handover::read(&mut check, it, &file, &limits, offers_http));
        match (name, version, runtime) {
            (Some(name), Some(version), Some(runtime)) if check.problems.is_empty() => Ok(Self {
                name,
                version,
                instances: if runtime == Runtime::Resource { 0 } else { instances },
                runtime,
                files,
                provides,
                requires,
                resources,
                limits,
                env: file.env,
                configuration,
                health,
                timeouts,
                restart,
                keep,
                gates,
                handover,
            }),
            _ => Err(check.problems),
        }
    }
}

fn version(check: &mut Check, text: Option<&str>) -> Option<Version> {
    let root = KeyPath::default();
    let key = root.key("version");
    let allowed = "semver without build metadata, like \"1.0.0\" or \"2.1.0-rc.1\"";
    let Some(text) = text else {
        check.missing(&root, "version", allowed);
        return None;
    };
    match Version::parse(text) {
        Ok(version) if !version.build.is_empty() => check.refuse(&key, text, "has build metadata", allowed),
        Ok(_) if text.len() > 64 => check.refuse(&key, text, "is longer than 64 bytes", allowed),
        Ok(version) => return Some(version),
        Err(why) => check.refuse(&key, text, &format!("is not a version: {why}"), allowed),
    }
    None
}

fn runtime(check: &mut Check, file: &ManifestFile) -> Option<Runtime> {
    let root = KeyPath::default();
    let Some(kind) = file.runtime else {
        check.missing(&root, "runtime", "runtime = \"sdk\", \"http\", \"base\" or \"resource\"");
        return None;
    };
    if file.listen.is_some() && kind != RuntimeKind::Http {
        check.problem(&root.key("listen"), "`listen` is for runtime = \"http\" only", "no `listen` here");
    }
    if kind == RuntimeKind::Resource {
        resource_only(check, file);
        return Some(Runtime::Resource);
    }
    let args = root.key("args");
    check.count(&args, file.args.len());
    for (index, text) in file.args.iter().enumerate() {
        check.text(&args.index(index), text);
    }
    let Some(text) = &file.exec else {
        check.missing(&root, "exec", "a path inside the package, like exec = \"bin/spell\"");
        return None;
    };
    let program = Program { exec: exec(check, text)?, args: file.args.clone() };
    Some(match (kind, file.listen.unwrap_or_default()) {
        (RuntimeKind::Http, ListenKind::Inherit) => Runtime::Http(program, Listen::Inherit),
        (RuntimeKind::Http, ListenKind::Port) => Runtime::Http(program, Listen::Port),
        (RuntimeKind::Base, _) => Runtime::Base(program),
        (RuntimeKind::Sdk | RuntimeKind::Resource, _) => Runtime::Sdk(program),
    })
}

fn exec(check: &mut Check, text: &str) -> Option<Exec> {
    let key = KeyPath::default().key("exec");
    if !text.starts_with('/') {
        return check.path(&key, text).map(Exec::Package);
    }
    let inside = super::PackagePath::new(&text[1..]);
    if inside.is_ok() && (text.starts_with("/usr/") || text.starts_with("/bin/")) {
        return Some(Exec::Host(PathBuf::from(text)));
    }
    check.refuse(
        &key,
        text,
        "is outside what a worker sees",
        "a path inside the package, like \"bin/spell\", or a plain absolute one below /usr or /bin",
    );
    None
}

/// A module without a program has nothing that needs what a program needs.
fn resource_only(check: &mut Check, file: &ManifestFile) {
    let root = KeyPath::default();
    let superfluous = [
        ("exec", file.exec.is_some()),
        ("args", !file.args.is_empty()),
        ("instances", file.instances.is_some()),
        ("provides", !file.provides.is_empty()),
        ("requires", file.requires != RequiresFile::default()),
        ("limits", file.limits != LimitsFile::default()),
        ("env", !file.env.is_empty()),
        ("configuration", !file.configuration.is_empty()),
        ("health", file.health.is_some()),
        ("timeouts", file.timeouts != TimeoutsFile::default()),
        ("restart", file.restart != RestartFile::default()),
        ("swap", file.swap != SwapFile::default()),
    ];
    for (key, there) in superfluous {
        if there {
            let message = format!("`{key}` is there, but runtime = \"resource\" runs no program");
            check.problem(&root.key(key), message, "name, version, runtime, files and [[resources]]");
        }
    }
    if file.resources.is_empty() {
        check.missing(&root, "resources", "at least one [[resources]] with name and file: there is nothing else in it");
    }
}

fn provides(check: &mut Check, list: &[ProvidesFile], runtime: Option<RuntimeKind>) -> Vec<Provided> {
    let root = KeyPath::default().key("provides");
    check.count(&root, list.len());
    let mut provided: Vec<Provided> = Vec::new();
    let mut names = BTreeMap::new();
    let mut routes = BTreeMap::new();
    for (index, entry) in list.iter().enumerate() {
        let at = root.index(index);
        let route = entry.http.as_ref().and_then(|it| http(check, &at.key("http"), it));
        if let Some(route) = &route
            && let Some(first) = routes.insert(route.clone(), at.key("http"))
        {
            let shown = format!("{}{}", route.host.as_deref().unwrap_or("*"), route.prefix);
            check.twice(&at.key("http"), "route", &shown, &first);
        }
        if entry.http.is_none() && runtime == Some(RuntimeKind::Http) {
            let allowed = "http = { prefix = \"/path\" }: a program without the SDK can be reached by HTTP only";
            check.missing(&at, "http", allowed);
        }
        let Some(text) = &entry.service else {
            check.missing(&at, "service", "service = \"my-service\"");
            continue;
        };
        let key = at.key("service");
        let Some(service) = check.name(&key, text) else { continue };
        if let Some(first) = names.insert(text.clone(), key.clone()) {
            check.twice(&key, "service", text, &first);
            continue;
        }
        provided.push(Provided { service, http: route, export: entry.export.unwrap_or(false) });
    }
    if list.is_empty() && runtime == Some(RuntimeKind::Http) {
        let allowed = "[[provides]] with service and http = { prefix = \"/path\" }";
        check.missing(&KeyPath::default(), "provides", allowed);
    }
    provided
}

fn http(check: &mut Check, at: &KeyPath, file: &HttpFile) -> Option<HttpRoute> {
    let prefix = file.prefix.clone().unwrap_or_else(|| "/".to_owned());
    let segments = |text: &str| text[1..].split('/').all(|it| !matches!(it, "" | "." | ".."));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\\"<>^`{|}*".contains(&b));
    let prefix_ok =
        prefix == "/" || (prefix.starts_with('/') && prefix.len() <= 255 && segments(&prefix) && plain(&prefix));
    if !prefix_ok {
        let allowed = "\"/\" or plain segments like \"/site\" or \"/api/v2\": no '/' last, no \"..\", no '%', no '?'";
        check.refuse(&at.key("prefix"), &prefix, "is not a path prefix", allowed);
    }
    let host_ok = file.host.as_deref().is_none_or(is_host);
    if let (false, Some(host)) = (host_ok, &file.host) {
        let allowed = "a lower-case DNS name without scheme, port or '*', like \"example.org\"";
        check.refuse(&at.key("host"), host, "is not a host name", allowed);
    }
    (prefix_ok && host_ok).then(|| HttpRoute { prefix, host: file.host.clone() })
}

fn is_host(text: &str) -> bool {
    let label = |it: &str| {
        (1..=63).contains(&it.len())
            && it.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !it.starts_with('-')
            && !it.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn resources(check: &mut Check, list: &[ResourceFileEntry]) -> Vec<ResourceFile> {
    let root = KeyPath::default().key("resources");
    check.count(&root, list.len());
    let mut resources = Vec::new();
    let mut names = BTreeMap::new();
    for (index, entry) in list.iter().enumerate() {
        let at = root.index(index);
        let file = match &entry.file {
            Some(text) => check.path(&at.key("file"), text),
            None => {
                check.missing(&at, "file", "file = \"data/words.txt\"");
                None
            }
        };
        let Some(text) = &entry.name else {
            check.missing(&at, "name", "name = \"words\"");
            continue;
        };
        let key = at.key("name");
        if let Some(first) = names.insert(text.clone(), key.clone()) {
            check.twice(&key, "resource", text, &first);
        } else if let (Some(name), Some(file)) = (check.name(&key, text), file) {
            resources.push(ResourceFile { name, file });
        }
    }
    resources
}

fn requires(check: &mut Check, file: &RequiresFile, provides: &[Provided]) -> Requires {
    let root = KeyPath::default().key("requires");
    let mut requires = Requires::default();
    let mut first = BTreeMap::new();
    check.count(&root.key("services"), file.services.len());
    for (index, text) in file.services.iter().enumerate() {
        let key = root.key("services").index(index);
        if let Some(first) = first.insert(text, key.clone()) {
            check.twice(&key, "service", text, &first);
        } else if provides.iter().any(|it| it.service.as_str() == text) {
            let message = format!("`{}` = {text:?} is a service of this very module", key.as_str());
            check.problem(&key, message, "services of other modules: call your own code as a function");
        } else {
            requires.services.extend(check.name(&key, text));
        }
    }
    first.clear();
    check.count(&root.key("resources"), file.resources.len());
    for (index, text) in file.resources.iter().enumerate() {
        let key = root.key("resources").index(index);
        if let Some(first) = first.insert(text, key.clone()) {
            check.twice(&key, "resource", text, &first);
        } else {
            requires.resources.extend(check.name(&key, text));
        }
    }
    requires
}

fn limits(check: &mut Check, file: &LimitsFile) -> Limits {
    let root = KeyPath::default().key("limits");
    let default = Limits::default();
    let cpu = match file.cpu {
        None => default.cpu,
        Some(cpu) if (bounds::CPU_MIN..=bounds::CPU_MAX).contains(&cpu) => cpu,
        Some(cpu) => {
            let allowed = format!("{} to {} cores; 0.5 is half of one core", bounds::CPU_MIN, bounds::CPU_MAX);
            check.refuse(&root.key("cpu"), cpu, "is out of range", allowed);
            default.cpu
        }
    };
    let mut integer = |key: &str, value, default, min, max| check.integer(&root.key(key), value, default, min, max);
    let pids = integer("pids", file.pids, default.pids, bounds::PIDS_MIN, bounds::PIDS_MAX);
    let mut weight = |key, value, default| integer(key, value, default, bounds::WEIGHT_MIN, bounds::WEIGHT_MAX);
    let cpu_weight = weight("cpu_weight", file.cpu_weight, default.cpu_weight);
    let io_weight = weight("io_weight", file.io_weight, default.io_weight);
    let open_files =
        integer("open_files", file.open_files, default.open_files, bounds::OPEN_FILES_MIN, bounds::OPEN_FILES_MAX);
    let memory = check.bytes(&root.key("memory"), file.memory.as_deref(), default.memory, bounds::MEMORY_MIN);
    let memory_high = file.memory_high.as_deref().map(|text| {
        let key = root.key("memory_high");
        let high = check.bytes(&key, Some(text), memory, bounds::MEMORY_MIN);
        if high > memory {
            check.refuse(&key, text, "is above `memory`", format!("at most {}", show_bytes(memory)));
        }
        high
    });
    let swap = check.bytes(&root.key("swap"), file.swap.as_deref(), default.swap, 0);
    Limits { memory, memory_high, swap, cpu, cpu_weight, pids, io_weight, open_files }
}

fn env(check: &mut Check, env: &BTreeMap<String, String>) {
    let root = KeyPath::default().key("env");
    check.count(&root, env.len());
    for (name, value) in env {
        let key = root.key(name);
        let plain =
            name.bytes().enumerate().all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || i > 0 && b.is_ascii_digit());
        if name.is_empty() || !plain {
            check.problem(
                &key,
                format!("{name:?} is not the name of a variable"),
                "A-Z, a-z, 0-9 and '_', no digit first",
            );
        } else if name.starts_with("MORTISE_") || name.starts_with("LISTEN_") || name == "PORT" {
            let message = format!("the variable {name:?} is set by Mortise");
            check.problem(&key, message, "any name but PORT, LISTEN_… and MORTISE_…");
        }
        check.text(&key, value);
    }
}

fn configuration(check: &mut Check, values: &BTreeMap<String, ConfigurationValue>) -> BTreeMap<String, String> {
    let root = KeyPath::default().key("configuration");
    check.count(&root, values.len());
    let mut texts = BTreeMap::new();
    for (name, value) in values {
        let key = root.key(name);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            let allowed = "1 to 63 of A-Z, a-z, 0-9, '_', '-' and '.'";
            check.problem(&key, format!("{name:?} is not the name of a configuration value"), allowed);
        }
        let text = match value {
            ConfigurationValue::Boolean(value) => value.to_string(),
            ConfigurationValue::Integer(value) => value.to_string(),
            ConfigurationValue::Float(value) => value.to_string(),
            ConfigurationValue::Text(value) => value.clone(),
        };
        check.text(&key, &text);
        texts.insert(name.clone(), text);
    }
    texts
}

fn health(check: &mut Check, file: &HealthFile, offers_http: bool) -> Health {
    let root = KeyPath::default().key("health");
    let interval = check.duration(&root.key("interval"), file.interval.as_deref(), Duration::from_secs(5));
    let default = interval.min(Duration::from_secs(1));
    let timeout = check.duration(&root.key("timeout"), file.timeout.as_deref(), default);
    if timeout > interval {
        let found = file.timeout.clone().unwrap_or_default();
        let allowed = format!("at most the interval, which is {}", super::quantity::show_duration(interval));
        check.refuse(&root.key("timeout"), found, "is longer than the interval", allowed);
    }
    let failures = check.integer(&root.key("failures"), file.failures, 3, 1, bounds::FAILURES_MAX);
    if let Some(path) = &file.path {
        let key = root.key("path");
        let plain = path.bytes().all(|b| b.is_ascii_graphic()) && path.len() <= 255;
        if !path.starts_with('/') || !plain {
            check.refuse(&key, path, "is not the path of a request", "a path like \"/healthz\", visible ASCII only");
        } else if !offers_http {
            let message = "`health.path` is there, but no service of this module is offered by HTTP";
            check.problem(&key, message, "no `path` (the SDK answers the check), or a service with http = { … }");
        }
    }
    Health { interval, timeout, failures, path: file.path.clone() }
}

fn timeouts(check: &mut Check, file: &TimeoutsFile) -> Timeouts {
    let root = KeyPath::default().key("timeouts");
    let default = Timeouts::default();
    Timeouts {
        start: check.duration(&root.key("start"), file.start.as_deref(), default.start),
        drain: check.duration(&root.key("drain"), file.drain.as_deref(), default.drain),
        stop: check.duration(&root.key("stop"), file.stop.as_deref(), default.stop),
    }
}

fn keep(check: &mut Check, file: &SwapFile, runtime: Option<RuntimeKind>) -> Duration {
    let key = KeyPath::default().key("swap").key("keep");
    if file.keep.is_some() && runtime == Some(RuntimeKind::Base) {
        let message = "`swap.keep` is there, but a base holds clients' connections and is never kept frozen";
        check.problem(&key, message, "no `swap.keep` here");
    }
    check.duration(&key, file.keep.as_deref(), Duration::ZERO)
}

fn gates(check: &mut Check, file: &GatesFile, runtime: Option<RuntimeKind>) -> Vec<Gate> {
    let root = KeyPath::default().key("swap").key("gates");
    let said = |figure: Figure| match figure {
        Figure::ErrorRate => file.error_rate.as_ref(),
        Figure::P99 => file.p99.as_ref(),
        Figure::Cpu => file.cpu.as_ref(),
        Figure::Memory => file.memory.as_ref(),
        Figure::Restarts => file.restarts.as_ref(),
    };
    let said = Figure::ALL.into_iter().filter_map(|figure| Some((figure, said(figure)?)));
    let mut gates = Vec::new();
    for (figure, text) in said {
        let key = root.key(figure.name());
        if figure.needs_calls() && runtime == Some(RuntimeKind::Http) {
            let message =
                format!("`{}` is there, but nobody counts the calls of a program without the SDK", key.as_str());
            check.problem(&key, message, "`memory` and `restarts`");
        }
        match figure.gate(text) {
            Ok(gate) => gates.push(gate),
            Err(_) => check.refuse(&key, text, "is no gate", figure.allowed()),
        }
    }
    gates
}

fn restart(check: &mut Check, file: &RestartFile) -> Restart {
    let root = KeyPath::default().key("restart");
    let default = Restart::default();
    let before = check.problems.len();
    let backoff = check.duration(&root.key("backoff"), file.backoff.as_deref(), default.backoff);
    let default_max = default.backoff_max.max(backoff);
    let backoff_max = check.duration(&root.key("backoff_max"), file.backoff_max.as_deref(), default_max);
    let crashes = check.integer(&root.key("crashes"), file.crashes, default.crashes, 1, bounds::CRASHES_MAX);
    let stable = check.duration(&root.key("stable"), file.stable.as_deref(), default.stable);
    let restart = Restart { policy: file.policy.unwrap_or_default(), backoff, backoff_max, crashes, stable };
    let sound = check.problems.len() == before;
    if sound && backoff_max < backoff {
        let found = file.backoff_max.clone().unwrap_or_default();
        check.refuse(&root.key("backoff_max"), found, "is shorter than `backoff`", "at least `backoff`");
    }
    restart
}
