//! What the engine says about a worker to be started.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mortise_control::{ModuleName, Role, TenantName, Token, WorkerId};
use semver::Version;

use crate::manifest::{self, Exec};

/// A worker to be started.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// Who it will be.
    pub worker: WorkerId,
    /// What kind of program.
    pub role: Role,
    /// Whose.
    pub tenant: TenantName,
    /// Which module.
    pub module: ModuleName,
    /// Which version.
    pub version: Version,
    /// To be shown in its hello.
    pub token: Token,
    /// The uid and gid it runs as, on a host that keeps `own-uid`.
    pub uid: u32,
    /// The unpacked package: the worker's `/module`.
    pub package: PathBuf,
    /// What runs.
    pub program: Program,
    /// Configuration values, for the boot record.
    pub configuration: BTreeMap<String, String>,
    /// What it may use.
    pub limits: manifest::Limits,
    /// Whether it gets a listening socket `RUN/http/SLOT.GEN.sock`: it provides a service by HTTP.
    pub http: bool,
    /// Descriptors it inherits beside that one (`ingress-N` and `invoke` of a base).
    pub inherited: Vec<Inherited>,
    /// Only for [`Role::Http`].
    pub serve: Option<Serve>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub exec: Exec,
    /// Its arguments, without the name of the program.
    pub arguments: Vec<String>,
    /// Environment from module.toml, added to the clean one that every worker gets.
    pub environment: BTreeMap<String, String>,
}

/// How a program without the SDK is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// How it learns where to listen.
    pub listen: manifest::Listen,
    /// Path of a health check.
    pub health: Option<String>,
}

/// A descriptor that a worker inherits.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// As in [`mortise_control::InheritedFd::name`].
    pub name: String,
    /// It stays the supervisor's too.
    pub fd: Arc<OwnedFd>,
}
