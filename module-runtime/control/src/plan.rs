//! What `mortise-init` does before a worker's first instruction, as plain data.
//!
//! The supervisor makes a [`Plan`] by a pure function; init performs its steps in order and decides nothing. A step that fails
//! ends the worker, and a [`Failure`] on the status pipe says which one it was.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All that init has to do. Encoded by rmp-serde with field names, in a sealed memfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`crate::PROTOCOL`] of the supervisor that wrote it. Init comes with the supervisor: any other is refused.
    pub protocol: u16,
    /// In order.
    pub steps: Vec<Step>,
    /// What then runs.
    pub program: Program,
    /// How.
    pub run: Run,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The group that this process is in is the root of all groups that it sees.
    CgroupNamespace,
    /// No mount made from here on is seen outside, and none made outside is seen here.
    PrivateMounts,
    /// An empty tmpfs over the folder `over`. The paths of the steps up to [`Step::EnterRoot`] begin at its root.
    NewRoot {
        /// A folder of the host.
        over: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A folder in the new root.
    Folder {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A symbolic link in the new root.
    Link {
        /// Where.
        path: PathBuf,
        /// What it points to.
        to: PathBuf,
    },
    /// A file in the new root, mode 0444.
    File {
        /// Where.
        path: PathBuf,
        /// What is in it.
        content: String,
    },
    /// A file or folder of the host with everything mounted below it, seen in the new root.
    Bind {
        /// On the host.
        from: PathBuf,
        /// In the new root. Made if it is not there.
        path: PathBuf,
        /// What may be done there.
        access: Access,
    },
    /// A private folder in memory.
    Tmpfs {
        /// In the new root. Made if it is not there.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// How many files and folders fit.
        inodes: u64,
    },
    /// The view of the own pid namespace.
    Proc {
        /// In the new root. Made if it is not there.
        path: PathBuf,
    },
    /// Make the new root the root, read-only, and let go of the host's.
    EnterRoot,
    /// Bring the loopback interface up.
    Loopback,
    /// The name of the host, as the worker sees it.
    HostName(String),
    /// A resource limit, soft and hard.
    ResourceLimit {
        /// What is limited.
        resource: ResourceLimit,
        /// To what.
        value: u64,
    },
    /// Become this user and group, keeping capabilities for the steps that follow.
    Identity {
        /// The uid.
        uid: u32,
        /// The gid.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// A user namespace of its own, in which the present uid and gid are `uid` and `gid` and no others exist.
    UserNamespace {
        /// The uid as seen inside.
        uid: u32,
        /// The gid as seen inside.
        gid: u32,
    },
    /// No capability is left in any set, and the bits that would give any back are locked.
    DropCapabilities,
    /// No exec gives more rights.
    NoNewPrivileges,
    /// What the worker may do with files, as a second wall behind the mounts. Everything that is not listed is denied.
    Landlock {
        /// May be read and executed.
        read: Vec<PathBuf>,
        /// May be read, written and removed, but not executed.
        write: Vec<PathBuf>,
    },
    /// System calls that are allowed: a classic BPF program, 8 bytes per instruction as the kernel reads them.
    Seccomp {
        /// The program.
        #[serde(with = "serde_bytes")]
        filter: Vec<u8>,
    },
}

impl Step {
    /// The step's name, for the report of its failure.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CgroupNamespace => "cgroup-namespace",
            Self::PrivateMounts => "private-mounts",
            Self::NewRoot { .. } => "new-root",
            Self::Folder { .. } => "folder",
            Self::Link { .. } => "link",
            Self::File { .. } => "file",
            Self::Bind { .. } => "bind",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Proc { .. } => "proc",
            Self::EnterRoot => "enter-root",
            Self::Loopback => "loopback",
            Self::HostName(_) => "host-name",
            Self::ResourceLimit { .. } => "resource-limit",
            Self::Identity { .. } => "identity",
            Self::UserNamespace { .. } => "user-namespace",
            Self::DropCapabilities => "drop-capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Landlock { .. } => "landlock",
            Self::Seccomp { .. } => "seccomp",
        }
    }

    /// The path the step is about, for the report of its failure.
    #[must_use]
    pub const fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::NewRoot { over: path, .. }
            | Self::Folder { path, .. }
            | Self::Link { path, .. }
            | Self::File { path, .. }
            | Self::Bind { from: path, .. }
            | Self::Tmpfs { path, .. }
            | Self::Proc { path } => Some(path),
            Self::CgroupNamespace
            | Self::PrivateMounts
            | Self::EnterRoot
            | Self::Loopback
            | Self::HostName(_)
            | Self::ResourceLimit { .. }
            | Self::Identity { .. }
            | Self::UserNamespace { .. }
            | Self::DropCapabilities
            | Self::NoNewPrivileges
            | Self::Landlock { .. }
            | Self::Seccomp { .. } => None,
        }
    }
}

/// What may be done in a [`Step::Bind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read and execute. No set-uid, no devices.
    ReadExecute,
    /// Read. No execution, no set-uid, no devices.
    Read,
    /// A device file.
    Device,
}

/// A resource that [`Step::ResourceLimit`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceLimit {
    /// Open files per process.
    OpenFiles,
    /// Bytes of a core dump.
    Core,
}

/// The program of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// As the worker sees it.
    pub path: PathBuf,
    /// All arguments, the program's name first.
    pub arguments: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts.
    pub folder: PathBuf,
}

/// How the program is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// In place of init.
    Exec,
    /// As a child of init, which speaks the control protocol for it.
    Serve(Serve),
}

/// What init needs to know to speak for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// How the program listens.
    pub listen: Listen,
    /// The path of a GET that a healthy program answers by 2xx. None: that it accepts a connection is enough.
    pub health: Option<String>,
}

/// How a program without the SDK listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// It inherits a TCP listener as descriptor 3 (`LISTEN_FDS=1`, `LISTEN_PID`).
    Inherit,
    /// It binds this port of 127.0.0.1, which is in its environment as `PORT`.
    Port(u16),
}

/// What init writes to the status pipe when its plan is done, just before the program runs. A [`Failure`] may still follow if
/// it cannot be run; when the pipe closes with this alone, it runs.
pub const DONE: u8 = b'+';

/// What init writes to the status pipe when it cannot go on, encoded by rmp-serde with field names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`Step::name`], or `plan`, `boot`, `listen`, `exec`.
    pub step: String,
    /// What it was about: a path, mostly.
    pub about: String,
    /// The kernel's answer; 0 if it was not the kernel that refused.
    pub errno: i32,
}

/// The most bytes that a [`Failure`] has when it is encoded: what a pipe takes at once.
pub const MAX_FAILURE: usize = 4096;
