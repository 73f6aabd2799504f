//! The promises that need the host, by name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Something that Mortise promises of every worker and that the host's kernel has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// A worker has no more memory than its limit; beyond it, it alone is killed.
    MemoryLimit,
    /// A worker is slowed down before it comes to its limit of memory, where its module.toml says so.
    MemoryHigh,
    /// What a worker may swap out beside it is limited.
    SwapLimit,
    /// A worker gets no more CPU time than its limit.
    CpuLimit,
    /// A worker has no more processes and threads than its limit.
    PidsLimit,
    /// Disks are shared by weight.
    IoWeight,
    /// The memory killer takes a worker as a whole.
    OomGroup,
    /// No process of a worker escapes when it is killed.
    GroupKill,
    /// A worker can be stopped and resumed as a whole.
    Freeze,
    /// Memory, CPU time and processes of a worker are measured.
    Figures,
    /// How long a worker waits for memory, processors and disks is measured.
    Pressure,
    /// Every worker has a uid that nobody else has.
    OwnUid,
    /// A worker is in a user namespace of its own.
    UserNamespace,
    /// A worker sees no process but its own.
    PidNamespace,
    /// A worker sees a read-only host, its own package and its own /tmp, and nothing else.
    MountNamespace,
    /// A worker shares no System V IPC and no POSIX queue.
    IpcNamespace,
    /// A worker has a host name of its own.
    UtsNamespace,
    /// A worker sees its own group as the root of all groups, and no name above it.
    CgroupNamespace,
    /// A worker has a loopback interface of its own and no other network.
    NetNamespace,
    /// A worker makes no system calls but those allowed.
    Seccomp,
    /// File access is limited a second time, behind the mounts.
    Landlock,
}

/// A set of promises.
pub type Promises = BTreeSet<Promise>;

impl Promise {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::MemoryLimit,
        Self::MemoryHigh,
        Self::SwapLimit,
        Self::CpuLimit,
        Self::PidsLimit,
        Self::IoWeight,
        Self::OomGroup,
        Self::GroupKill,
        Self::Freeze,
        Self::Figures,
        Self::Pressure,
        Self::OwnUid,
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::NetNamespace,
        Self::Seccomp,
        Self::Landlock,
    ];

    /// Its name, as `--allow-degraded` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryLimit => "memory-limit",
            Self::MemoryHigh => "memory-high",
            Self::SwapLimit => "swap-limit",
            Self::CpuLimit => "cpu-limit",
            Self::PidsLimit => "pids-limit",
            Self::IoWeight => "io-weight",
            Self::OomGroup => "oom-group",
            Self::GroupKill => "group-kill",
            Self::Freeze => "freeze",
            Self::Figures => "figures",
            Self::Pressure => "pressure",
            Self::OwnUid => "own-uid",
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::NetNamespace => "net-namespace",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
        }
    }

    /// Whether `mortised` refuses to start without it. What is not required makes neighbours faster or tidier, but no tenant can hurt
    /// another for the lack of it.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(
            self,
            Self::IoWeight
                | Self::MemoryHigh
                | Self::SwapLimit
                | Self::OomGroup
                | Self::Pressure
                | Self::CgroupNamespace
        )
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no promise; there are {}", Promise::ALL.map(Promise::name).join(", "))]
pub struct UnknownPromise {
    /// The text that was refused.
    pub found: String,
}

impl FromStr for Promise {
    type Err = UnknownPromise;
    fn from_str(text: &str) -> Result<Self, UnknownPromise> {
        Self::ALL
            .into_iter()
            .find(|it| it.name() == text)
            .ok_or_else(|| UnknownPromise { found: text.chars().take(80).collect() })
    }
}

/// Promises that are required and not kept here, and that the operator has not allowed to be missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host does not keep: {}", .0.iter().map(|it| format!("{} ({}; remedy: {})", it.0, it.1, it.2)).collect::<Vec<_>>().join("; "))]
pub struct Refused(pub Vec<(Promise, String, String)>);

/// What will be enforced: decided once, at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    kept: Promises,
}

impl Enforcement {
    pub(crate) const fn new(kept: Promises) -> Self {
        Self { kept }
    }

    /// Whether this promise is kept.
    #[must_use]
    pub fn keeps(&self, promise: Promise) -> bool {
        self.kept.contains(&promise)
    }
}
