//! mortise.toml as it is written: plain data, every key optional, nothing believed yet; and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mortise_control::TenantName;
use nix::unistd::User;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::super::LogFormat;
use super::super::arguments::{FIRST_UID_LEAST, FIRST_UID_MOST};
use super::super::readiness::Readiness;
use super::{Settings, Timeouts};
use crate::admin::Roles;
use crate::host::Promise;
use crate::lifecycle::{DEFAULT_TENANT, ModuleKey};
use crate::manifest::{Check, KeyPath, Problem, show_duration};

/// The fewest and the most ended operations that can be remembered.
const REMEMBERED: (i64, i64) = (16, 65_536);

/// The longest that a start may be made to wait: more than systemd can be told to wait at once would be 71 minutes.
const READY_WITHIN_MAX: Duration = Duration::from_secs(3600);

/// The settings of `mortised`: each option of its command line by its name, with `_` for `-`, and more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "mortise.toml")]
pub(super) struct SettingsFile {
    pub state: Option<String>,
    pub run: Option<String>,
    pub admin: Option<String>,
    pub listen: Option<Vec<String>>,
    pub base: Option<String>,
    pub libexec: Option<String>,
    pub allow_degraded: Option<Vec<String>>,
    pub workers_unit: Option<String>,
    pub tenant_uids: Option<i64>,
    pub log: Option<String>,
    pub log_format: Option<LogFormat>,
    pub remembered_operations: Option<i64>,
    pub timeouts: TimeoutsFile,
    pub readiness: ReadinessFile,
    pub roles: RolesFile,
}

/// How long things may take that do not belong to one module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TimeoutsFile {
    pub map: Option<String>,
    pub routes: Option<String>,
    pub caller_release: Option<String>,
    pub flip: Option<String>,
    pub reconnect: Option<String>,
    pub receipt: Option<String>,
}

/// What the service manager's `READY=1` waits for, beyond the base.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReadinessFile {
    pub modules: Option<Vec<String>>,
    pub within: Option<String>,
}

/// Who may use the admin API beside root and the user that mortised runs as: names or numbers of users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RolesFile {
    /// May do everything.
    pub operators: Option<Vec<String>>,
    /// May read everything.
    pub readers: Option<Vec<String>>,
    /// `TENANT=USER`: may do everything with the modules of this tenant.
    pub owners: Option<Vec<String>>,
}

impl SettingsFile {
    /// The settings, with what stands here instead of what they were.
    ///
    /// # Errors
    /// Every value that cannot be.
    pub fn over(self, under: Settings) -> Result<Settings, Vec<Problem>> {
        let mut check = Check::default();
        let root = KeyPath::default();
        let it = &mut check;
        let settings = Settings {
            state: path(it, &root.key("state"), self.state).unwrap_or(under.state),
            run: path(it, &root.key("run"), self.run).unwrap_or(under.run),
            admin: path(it, &root.key("admin"), self.admin).or(under.admin),
            listen: each(it, &root.key("listen"), self.listen, address).unwrap_or(under.listen),
            base: path(it, &root.key("base"), self.base).or(under.base),
            libexec: path(it, &root.key("libexec"), self.libexec).or(under.libexec),
            allow_degraded: each(it, &root.key("allow_degraded"), self.allow_degraded, promise)
                .unwrap_or(under.allow_degraded),
            workers_unit: unit(it, &root.key("workers_unit"), self.workers_unit).or(under.workers_unit),
            tenant_uids: it.integer(
                &root.key("tenant_uids"),
                self.tenant_uids,
                under.tenant_uids,
                FIRST_UID_LEAST,
                FIRST_UID_MOST,
            ),
            log: filter(it, &root.key("log"), self.log).unwrap_or(under.log),
            log_format: self.log_format.or(under.log_format),
            remembered_operations: it.integer(
                &root.key("remembered_operations"),
                self.remembered_operations,
                under.remembered_operations,
                REMEMBERED.0,
                REMEMBERED.1,
            ),
            timeouts: self.timeouts.over(it, &under.timeouts),
            readiness: self.readiness.over(it, under.readiness),
            roles: self.roles.over(it, under.roles),
        };
        if check.problems.is_empty() { Ok(settings) } else { Err(check.problems) }
    }
}

impl TimeoutsFile {
    fn over(&self, check: &mut Check, under: &Timeouts) -> Timeouts {
        let table = KeyPath::default().key("timeouts");
        let mut time = |key, text: &Option<String>, default| check.duration(&table.key(key), text.as_deref(), default);
        Timeouts {
            map: time("map", &self.map, under.map),
            routes: time("routes", &self.routes, under.routes),
            caller_release: time("caller_release", &self.caller_release, under.caller_release),
            flip: time("flip", &self.flip, under.flip),
            reconnect: time("reconnect", &self.reconnect, under.reconnect),
            receipt: time("receipt", &self.receipt, under.receipt),
        }
    }
}

impl ReadinessFile {
    fn over(self, check: &mut Check, under: Readiness) -> Readiness {
        let table = KeyPath::default().key("readiness");
        let key = table.key("within");
        let within = check.duration(&key, self.within.as_deref(), under.within);
        if within > READY_WITHIN_MAX {
            let allowed = format!("at most {}", show_duration(READY_WITHIN_MAX));
            check.refuse(&key, self.within.unwrap_or_default(), "is out of range", allowed);
        }
        let modules = each(check, &table.key("modules"), self.modules, module);
        Readiness { modules: modules.unwrap_or(under.modules), within }
    }
}

impl RolesFile {
    fn over(self, check: &mut Check, under: Roles) -> Roles {
        let table = KeyPath::default().key("roles");
        let operators = each(check, &table.key("operators"), self.operators, user);
        let readers = each(check, &table.key("readers"), self.readers, user);
        let owners = each(check, &table.key("owners"), self.owners, owner).map(|pairs| {
            let mut owners: BTreeMap<u32, BTreeSet<TenantName>> = BTreeMap::new();
            for (uid, tenant) in pairs {
                owners.entry(uid).or_default().insert(tenant);
            }
            owners
        });
        Roles {
            operators: operators.map_or(under.operators, |it| it.into_iter().collect()),
            readers: readers.map_or(under.readers, |it| it.into_iter().collect()),
            owners: owners.unwrap_or(under.owners),
        }
    }
}

impl From<&Roles> for RolesFile {
    fn from(it: &Roles) -> Self {
        let numbers = |uids: &BTreeSet<u32>| Some(uids.iter().map(ToString::to_string).collect());
        let owners = it.owners.iter().flat_map(|(uid, of)| of.iter().map(move |tenant| format!("{tenant}={uid}")));
        Self { operators: numbers(&it.operators), readers: numbers(&it.readers), owners: Some(owners.collect()) }
    }
}

/// As somebody would have written them.
impl From<&Settings> for SettingsFile {
    fn from(it: &Settings) -> Self {
        let path = |path: &PathBuf| path.display().to_string();
        let time = |time| Some(show_duration(time));
        Self {
            state: Some(path(&it.state)),
            run: Some(path(&it.run)),
            admin: Some(path(&it.admin_socket())),
            listen: Some(it.listen.iter().map(ToString::to_string).collect()),
            base: it.base.as_ref().map(path),
            libexec: it.libexec.as_ref().map(path),
            allow_degraded: Some(it.allow_degraded.iter().map(ToString::to_string).collect()),
            workers_unit: it.workers_unit.clone(),
            tenant_uids: Some(it.tenant_uids.into()),
            log: Some(it.log.clone()),
            log_format: it.log_format,
            remembered_operations: Some(it.remembered_operations.into()),
            timeouts: TimeoutsFile {
                map: time(it.timeouts.map),
                routes: time(it.timeouts.routes),
                caller_release: time(it.timeouts.caller_release),
                flip: time(it.timeouts.flip),
                reconnect: time(it.timeouts.reconnect),
                receipt: time(it.timeouts.receipt),
            },
            readiness: ReadinessFile {
                modules: Some(it.readiness.modules.iter().map(ToString::to_string).collect()),
                within: time(it.readiness.within),
            },
            roles: RolesFile::from(&it.roles),
        }
    }
}

/// The service manager starts us wherever it likes.
fn path(check: &mut Check, key: &KeyPath, text: Option<String>) -> Option<PathBuf> {
    let text = text?;
    check.text(key, &text);
    if !text.starts_with('/') {
        check.refuse(key, &text, "is not absolute", "an absolute path, like \"/var/lib/mortise\"");
    }
    Some(text.into())
}

fn each<T>(
    check: &mut Check,
    key: &KeyPath,
    texts: Option<Vec<String>>,
    one: impl Fn(&mut Check, &KeyPath, &str) -> Option<T>,
) -> Option<Vec<T>> {
    let texts = texts?;
    check.count(key, texts.len());
    Some(texts.iter().enumerate().filter_map(|(index, text)| one(check, &key.index(index), text)).collect())
}

fn address(check: &mut Check, key: &KeyPath, text: &str) -> Option<SocketAddr> {
    let address = text.parse();
    if address.is_err() {
        check.refuse(
            key,
            text,
            "is not an address with a port",
            "like \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::]:80\"",
        );
    }
    address.ok()
}

fn promise(check: &mut Check, key: &KeyPath, text: &str) -> Option<Promise> {
    let promise = text.parse();
    if promise.is_err() {
        check.refuse(key, text, "is no promise", Promise::ALL.map(Promise::name).join(", "));
    }
    promise.ok()
}

/// `MODULE`, or `TENANT/MODULE`.
fn module(check: &mut Check, key: &KeyPath, text: &str) -> Option<ModuleKey> {
    let (tenant, module) = text.split_once('/').unwrap_or((DEFAULT_TENANT, text));
    let (tenant, module) = (check.name(key, tenant), check.name(key, module));
    Some(ModuleKey { tenant: tenant?, module: module? })
}

/// A user of this host, by name or number.
fn user(check: &mut Check, key: &KeyPath, text: &str) -> Option<u32> {
    if let Ok(uid) = text.parse() {
        return Some(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Some(user.uid.as_raw()),
        Ok(None) => {
            check.refuse(key, text, "is no user of this host", "the name of a user, or a number");
            None
        }
        Err(errno) => {
            check.refuse(
                key,
                text,
                &format!("cannot be looked up: {}", errno.desc()),
                "the number of a user always can",
            );
            None
        }
    }
}

/// `TENANT=USER`.
fn owner(check: &mut Check, key: &KeyPath, text: &str) -> Option<(u32, TenantName)> {
    let Some((tenant, name)) = text.split_once('=') else {
        check.refuse(key, text, "names no user", "TENANT=USER, like \"acme=alice\" or \"acme=1001\"");
        return None;
    };
    let (tenant, uid) = (check.name(key, tenant), user(check, key, name));
    Some((uid?, tenant?))
}

fn unit(check: &mut Check, key: &KeyPath, text: Option<String>) -> Option<String> {
    let text = text?;
    check.text(key, &text);
    if !text.ends_with(".service") {
        check.refuse(
            key,
            &text,
            "is no service unit",
            "the unit that runs `mortised hold`, like \"mortise-workers.service\"",
        );
    }
    Some(text)
}

fn filter(check: &mut Check, key: &KeyPath, text: Option<String>) -> Option<String> {
    let text = text?;
    if let Err(why) = EnvFilter::builder().parse(&text) {
        check.refuse(
            key,
            &text,
            &format!("is not a filter: {why}"),
            "off, error, warn, info, debug or trace, also for a part, like \"info,mortise_supervisor::engine=trace\"",
        );
    }
    Some(text)
}
