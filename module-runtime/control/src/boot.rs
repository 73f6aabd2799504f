//! What a worker is told before its first instruction.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ModuleName, TenantName, Token, WorkerId};

/// The descriptor on which a worker finds its [`Boot`] record: a write-sealed memfd.
pub const BOOT_FD: i32 = 3;

/// The environment variable that says that [`BOOT_FD`] holds a record. Its value is the descriptor's number.
pub const BOOT_FD_VARIABLE: &str = "MORTISE_BOOT_FD";

/// What kind of program the worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An SDK worker: init execs it, and it speaks the control protocol itself.
    Sdk,
    /// A program without the SDK: init stays as its pid 1 and speaks for it.
    Http,
    /// The base: an SDK worker that also receives HTTP routes.
    Base,
}

/// The record a worker reads once at start, encoded by rmp-serde with field names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Boot {
    /// [`crate::PROTOCOL`] of the supervisor that wrote it.
    pub protocol: u16,
    /// Who the worker is.
    pub worker: WorkerId,
    /// What kind of program it is.
    pub role: Role,
    /// Whose module it runs.
    pub tenant: TenantName,
    /// Which module it runs.
    pub module: ModuleName,
    /// Which version of it.
    pub version: semver::Version,
    /// To be shown in [`crate::Hello`].
    pub token: Token,
    /// The control socket, as seen by the worker. The supervisor may make the socket anew; the folder stays.
    pub control: PathBuf,
    /// Descriptors that the worker inherits beside 0, 1, 2 and [`BOOT_FD`].
    pub inherited: Vec<InheritedFd>,
    /// Configuration values from module.toml and the operator.
    pub configuration: BTreeMap<String, String>,
}

/// A descriptor that the worker finds open when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedFd {
    /// What it is: `http` (a listening Unix stream socket for requests from the base), `ingress-N` and `invoke` (base).
    pub name: String,
    /// Its number in the worker.
    pub fd: i32,
}

impl Boot {
    /// The descriptor number of the inherited descriptor `name`.
    #[must_use]
    pub fn inherited_fd(&self, name: &str) -> Option<i32> {
        self.inherited.iter().find(|it| it.name == name).map(|it| it.fd)
    }
}
