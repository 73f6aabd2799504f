//! What `mortised` goes by, from three places: its command line wins over mortise.toml and its drop-ins, those over the defaults.
//!
//! ```text
//!   source.rs  FILE, FILE.d/*.toml ──▶ bytes      file.rs  bytes ──as module.toml is read──▶ SettingsFile ──over──▶ Settings
//!   defaults ◀─over── FILE ◀─over── FILE.d/10-a.toml ◀─over── FILE.d/20-b.toml ◀─over── command line (and MORTISE_LOG)
//! ```
//!
//! All of it is right, or none of it is in force.

mod file;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::readiness::Readiness;
use super::{Arguments, LogFormat};
use crate::admin::Roles;
use crate::host::Promise;
use crate::lifecycle;
use crate::manifest::{Report, document, schema_of, visible};

use file::SettingsFile;

/// What is said of a setting that nobody has made.
const BY_DEFAULT: &str = "default";

/// What is in force. Each field is a key of mortise.toml and, but for the last four, an option of the command line, which
/// [`Arguments`] describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub state: PathBuf,
    pub run: PathBuf,
    pub admin: Option<PathBuf>,
    pub listen: Vec<SocketAddr>,
    pub base: Option<PathBuf>,
    pub libexec: Option<PathBuf>,
    pub allow_degraded: Vec<Promise>,
    pub workers_unit: Option<String>,
    pub tenant_uids: u32,
    pub log: String,
    pub log_format: Option<LogFormat>,
    /// Ended operations that are remembered, for the same answer to the same operation id.
    pub remembered_operations: u32,
    pub timeouts: Timeouts,
    pub readiness: Readiness,
    pub roles: Roles,
}

/// How long things may take that do not belong to one module: see [`lifecycle::Config`], whose `…_within` they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub map: Duration,
    pub routes: Duration,
    pub caller_release: Duration,
    pub flip: Duration,
    pub reconnect: Duration,
    pub receipt: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let policy = lifecycle::Config::default();
        Self {
            state: "/var/lib/mortise".into(),
            run: "/run/mortise".into(),
            admin: None,
            listen: Vec::new(),
            base: None,
            libexec: None,
            allow_degraded: Vec::new(),
            workers_unit: None,
            tenant_uids: policy.first_uid,
            log: "info".into(),
            log_format: None,
            remembered_operations: u32::try_from(policy.remembered_operations).unwrap_or(u32::MAX),
            timeouts: Timeouts {
                map: policy.map_within,
                routes: policy.apply_within,
                caller_release: policy.caller_release_within,
                flip: policy.flip_within,
                reconnect: policy.reconnect_within,
                receipt: policy.receipt_within,
            },
            readiness: Readiness { modules: Vec::new(), within: Duration::from_secs(60) },
            roles: Roles::default(),
        }
    }
}

impl Settings {
    /// Where the admin API listens.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.clone().unwrap_or_else(|| self.run.join("admin.sock"))
    }

    /// The numbers of the policy.
    pub fn policy(&self, http_folder: PathBuf) -> lifecycle::Config {
        let Timeouts { map, routes, caller_release, flip, reconnect, receipt } = self.timeouts;
        lifecycle::Config {
            first_uid: self.tenant_uids,
            http_folder,
            map_within: map,
            apply_within: routes,
            caller_release_within: caller_release,
            flip_within: flip,
            reconnect_within: reconnect,
            receipt_within: receipt,
            remembered_operations: self.remembered_operations as usize,
            ..lifecycle::Config::default()
        }
    }

    /// Every key that has a value, as it would be written, in the order of the file.
    pub fn keys(&self) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        let table = toml::Table::try_from(SettingsFile::from(self));
        let mut flatten = |prefix: &str, table: toml::Table| {
            let mut inner = Vec::new();
            for (key, value) in table {
                match value {
                    toml::Value::Table(table) => inner.push((format!("{key}."), table)),
                    value => keys.push((format!("{prefix}{key}"), value.to_string())),
                }
            }
            inner
        };
        for (prefix, table) in flatten("", table.unwrap_or_default()) {
            flatten(&prefix, table);
        }
        keys
    }
}

/// The settings and where each of them is from.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub settings: Settings,
    /// `FILE:LINE` or an option, by key. What is not here is by default.
    origins: BTreeMap<String, String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Reads the files and puts the command line over them.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files.
    pub fn new(arguments: &Arguments) -> Result<Self, Refused> {
        let schema = schema_of::<SettingsFile>();
        let (files, mut complaints) = source::files(arguments.config.as_deref());
        let (mut settings, mut origins) = (Settings::default(), BTreeMap::new());
        for path in &files {
            let name = path.display().to_string();
            let text = source::read(path).and_then(|bytes| Ok(document::utf8(&bytes, &name)?.to_owned()));
            let over = text.and_then(|text| {
                let over = document::read(&text, &name, &schema, |it: SettingsFile| it.over(settings.clone()))?;
                Ok((over, document::lines(&text)))
            });
            match over {
                Ok((over, lines)) => {
                    settings = over;
                    origins.extend(lines.into_iter().map(|(key, line)| (key, format!("{}:{line}", visible(&name)))));
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        if !complaints.is_empty() {
            return Err(Refused(complaints));
        }
        for option in arguments.over(&mut settings) {
            origins.insert(option.trim_start_matches('-').replace('-', "_"), option.to_owned());
        }
        Ok(Self { settings, origins, files })
    }

    /// Where the value of a key is from.
    pub fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or(BY_DEFAULT, String::as_str)
    }
}

/// A mortise.toml that says all that is in force, and where each value is from.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = None;
        for (key, value) in self.settings.keys() {
            let origin = self.origin(&key);
            let name = match key.split_once('.') {
                None => &*key,
                Some((of, name)) => {
                    if table.as_deref() != Some(of) {
                        write!(f, "\n[{of}]\n")?;
                        table = Some(of.to_owned());
                    }
                    name
                }
            };
            writeln!(f, "{:<48}# {origin}", format!("{name} = {value} "))?;
        }
        Ok(())
    }
}

/// Why settings are not taken: at least one reason.
#[derive(Debug)]
pub(super) struct Refused(pub Vec<Complaint>);

/// What is wrong with one file.
#[derive(Debug)]
pub(super) enum Complaint {
    /// It cannot be had at all.
    File { path: PathBuf, problem: String, allowed: String },
    /// What it says.
    Wrong(Report),
    /// It is right, and cannot be taken while the supervisor runs.
    Fixed { key: String, origin: String },
}

impl Refused {
    /// How many things are wrong.
    pub fn errors(&self) -> usize {
        let of = |it: &Complaint| match it {
            Complaint::Wrong(report) => report.findings.len(),
            Complaint::File { .. } | Complaint::Fixed { .. } => 1,
        };
        self.0.iter().map(of).sum()
    }

    /// The same, for people.
    pub fn count(&self) -> String {
        match self.errors() {
            1 => "1 error".to_owned(),
            many => format!("{many} errors"),
        }
    }
}

impl Complaint {
    fn file(path: impl AsRef<OsStr>, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        let path = Path::new(path.as_ref()).to_owned();
        Self::File { path, problem: problem.into(), allowed: allowed.into() }
    }
}

impl From<Report> for Complaint {
    fn from(report: Report) -> Self {
        Self::Wrong(report)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, problem, allowed } => {
                let path = visible(&path.display().to_string());
                write!(f, "error: {}\n --> {path}\n  = allowed: {allowed}", visible(problem))
            }
            Self::Wrong(report) => report.fmt(f),
            Self::Fixed { key, origin } => {
                write!(f, "error: `{key}` cannot change while mortised runs\n --> {origin}\n  = restart to change it")
            }
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            complaint.fmt(f)?;
        }
        f.write_char('\n')
    }
}
