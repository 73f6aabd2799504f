//! Operations: what is asked, how far it has come, how it ended.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mortise_control::routing::RouteFile;
use mortise_control::{GroupName, ModuleName, ServiceName, TenantName};
use semver::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, ModuleLimit, ModuleLimits, Rollout, Steering, TenantLimit, TenantLimits};

/// An operation's name: chosen by the client (so that asking twice does it once) or by the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct OperationId(pub String);

impl std::fmt::Display for OperationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// A change of the desired state. `tenant` is everywhere; the first tenant of a host is `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Request {
    /// Register a package that lies verified and unpacked in the package store.
    Install {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// sha256 of the package, hexadecimal.
        digest: String,
    },
    /// Remove a version, or every version, of a module that is stopped.
    Uninstall {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Which version; none means all of them.
        #[schema(value_type = Option<String>)]
        version: Option<Version>,
    },
    /// Run the module: done when its workers are ready.
    Start {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Which version; none means the newest installed.
        #[schema(value_type = Option<String>)]
        version: Option<Version>,
    },
    /// Drain and stop the module: done when its workers are gone.
    Stop {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
    },
    /// Replace the workers by new ones of the same version, new before old. Clears `Failed`.
    Restart {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
    },
    /// Replace the workers by ones of another installed version, new before old.
    Swap {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// To which version.
        #[schema(value_type = String)]
        version: Version,
        /// For how many milliseconds the workers that are replaced are kept frozen for a rollback; 0: they end. None: as the
        /// module.toml of their version says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
        /// Some: it takes over by steps. None: all at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<Rollout>,
        /// A module that hands its state over does so, unless this is said: then the new version begins without.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        without_state: bool,
    },
    /// Pause, resume or abort the swap of the module that is under way; an abort, also a restart or a start beside that is not
    /// committed. Done at once; what an abort ends is told by the operation that it ends.
    SteerSwap {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// What is to become of it.
        to: Steering,
    },
    /// Run another installed version beside the one in charge: done when its workers are ready and every caller can reach them.
    /// It gets what routes send it and nothing else. A swap to it puts it in charge alone; a discard ends it.
    StartBeside {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Which version.
        #[schema(value_type = String)]
        version: Version,
    },
    /// Give the version that runs beside the one in charge so many percent of the calls and requests that no route decides: done
    /// when every caller and every base knows it.
    Share {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// How many percent, 0 to 100.
        percent: u32,
    },
    /// Send so many percent of the calls of idempotent methods that the version in charge answers to the version beside as well, and compare
    /// the answers: done when every caller knows it. From 0 on a comparison begins anew; 0 ends it, and its report stays until the
    /// version beside goes.
    Shadow {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// How many percent, 0 to 100.
        percent: u32,
    },
    /// Put the version that is kept frozen in charge again; the one that was in charge is kept in its place.
    Rollback {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// As in `Swap`, for the version that goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    },
    /// End the version that is kept frozen or runs beside the one in charge. The supervisor asks for this by itself when the time
    /// of a kept one is over.
    Discard {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
    },
    /// Run so many workers of the module from now on, whichever version it is: done when they are ready and those too many are gone.
    Scale {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// How many, 1 to 64; none: as each version's module.toml says.
        instances: Option<u32>,
    },
    /// Say other limits of the module's workers, whichever version it is, for those that run and those that come: done when the kernel
    /// keeps them. Without `force` it is refused where a worker uses more memory than it could have.
    SetLimits {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Limits with other values; those that are not named stay.
        #[serde(default)]
        limits: ModuleLimits,
        /// Limits that are again as each version's module.toml says.
        #[serde(default)]
        lift: BTreeSet<ModuleLimit>,
        /// A worker that does not fit may be ended, and is started again.
        #[serde(default)]
        force: bool,
    },
    /// Let the module's services be called.
    Publish {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Which of its services; none means all.
        #[schema(value_type = Option<String>)]
        service: Option<ServiceName>,
    },
    /// Withdraw services: done when no new call can reach them.
    Unpublish {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which module.
        #[schema(value_type = String)]
        module: ModuleName,
        /// Which of its services; none means all.
        #[schema(value_type = Option<String>)]
        service: Option<ServiceName>,
    },
    /// Put these routes of the tenant in force, instead of those that were: done when every caller and every base has them.
    ApplyRoutes {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// All of them, as in the file of `mortise route apply`.
        #[schema(value_type = Object)]
        routes: RouteFile,
    },
    /// Take back the routes that were applied last: those before them are in force again.
    RollbackRoutes {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
    },
    /// Declare a group and have its modules run in these versions, all of them or none: what runs another version is swapped, what does
    /// not run is started, and all that is new takes charge in one step, when all of it is ready. Each module's part is an operation of its
    /// own, `ID.MODULE`.
    ApplyGroup {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Its name.
        #[schema(value_type = String)]
        group: GroupName,
        /// Its modules, each in an installed version. A module can be in several groups.
        #[schema(value_type = BTreeMap<String, String>)]
        modules: BTreeMap<ModuleName, Version>,
        /// As in `Swap`, for every version that is replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    },
    /// Put the versions that the group's modules had before the last change of it in charge again, all of them or none: by a rollback where
    /// that version is kept frozen, by a swap where it is not.
    RollbackGroup {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which group.
        #[schema(value_type = String)]
        group: GroupName,
        /// As in `Swap`, for the versions that go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    },
    /// Forget a group. Its modules go on as they are.
    RemoveGroup {
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which group.
        #[schema(value_type = String)]
        group: GroupName,
    },
    /// Declare a tenant. Modules can be installed for it from now on.
    AddTenant {
        /// Its name.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// What it may have.
        #[serde(default)]
        limits: TenantLimits,
    },
    /// Change what a tenant may have: done when the host enforces it. What it has already it keeps.
    SetTenant {
        /// Which.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Limits with other values; those that are not named stay.
        #[serde(default)]
        limits: TenantLimits,
        /// Limits that hold no more.
        #[serde(default)]
        lift: BTreeSet<TenantLimit>,
    },
    /// Let modules of another tenant call a service of this one, if its module.toml exports it and the other tenant imports it.
    Export {
        /// Whose service.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which.
        #[schema(value_type = String)]
        service: ServiceName,
        /// Who may call it.
        #[schema(value_type = String)]
        to: TenantName,
    },
    /// Take that back: done when no module of the other tenant has a channel to it.
    Unexport {
        /// Whose service.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which.
        #[schema(value_type = String)]
        service: ServiceName,
        /// Who may call it no more.
        #[schema(value_type = String)]
        to: TenantName,
    },
    /// Let this tenant's modules call the service of another tenant by this name, if that tenant exports it to this one. Until it does they
    /// get `Denied`, whether it has such a service or not.
    Import {
        /// Whose modules.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which service.
        #[schema(value_type = String)]
        service: ServiceName,
        /// Whose service.
        #[schema(value_type = String)]
        from: TenantName,
    },
    /// Take that back: the name is that of a service of the tenant's own again. Done when no module of it has a channel to the other.
    Unimport {
        /// Whose modules.
        #[schema(value_type = String)]
        tenant: TenantName,
        /// Which service.
        #[schema(value_type = String)]
        service: ServiceName,
    },
    /// Take away a tenant that has no modules. Its routes go with it.
    RemoveTenant {
        /// Which.
        #[schema(value_type = String)]
        tenant: TenantName,
    },
}

impl Request {
    /// Whose desired state it changes.
    #[must_use]
    pub const fn tenant(&self) -> &TenantName {
        match self {
            Self::Install { tenant, .. }
            | Self::Uninstall { tenant, .. }
            | Self::Start { tenant, .. }
            | Self::Stop { tenant, .. }
            | Self::Restart { tenant, .. }
            | Self::Swap { tenant, .. }
            | Self::SteerSwap { tenant, .. }
            | Self::StartBeside { tenant, .. }
            | Self::Share { tenant, .. }
            | Self::Shadow { tenant, .. }
            | Self::Rollback { tenant, .. }
            | Self::Discard { tenant, .. }
            | Self::Scale { tenant, .. }
            | Self::SetLimits { tenant, .. }
            | Self::Publish { tenant, .. }
            | Self::Unpublish { tenant, .. }
            | Self::ApplyRoutes { tenant, .. }
            | Self::RollbackRoutes { tenant }
            | Self::ApplyGroup { tenant, .. }
            | Self::RollbackGroup { tenant, .. }
            | Self::RemoveGroup { tenant, .. }
            | Self::AddTenant { tenant, .. }
            | Self::Export { tenant, .. }
            | Self::Unexport { tenant, .. }
            | Self::Import { tenant, .. }
            | Self::Unimport { tenant, .. }
            | Self::SetTenant { tenant, .. }
            | Self::RemoveTenant { tenant } => tenant,
        }
    }

    /// Which module it is about; none for a package that has yet to be read, for routes, for groups and for tenants.
    #[must_use]
    pub const fn module(&self) -> Option<&ModuleName> {
        match self {
            Self::Install { .. }
            | Self::ApplyRoutes { .. }
            | Self::RollbackRoutes { .. }
            | Self::ApplyGroup { .. }
            | Self::RollbackGroup { .. }
            | Self::RemoveGroup { .. }
            | Self::AddTenant { .. }
            | Self::Export { .. }
            | Self::Unexport { .. }
            | Self::Import { .. }
            | Self::Unimport { .. }
            | Self::SetTenant { .. }
            | Self::RemoveTenant { .. } => None,
            Self::Uninstall { module, .. }
            | Self::Start { module, .. }
            | Self::Stop { module, .. }
            | Self::Restart { module, .. }
            | Self::Swap { module, .. }
            | Self::SteerSwap { module, .. }
            | Self::StartBeside { module, .. }
            | Self::Share { module, .. }
            | Self::Shadow { module, .. }
            | Self::Rollback { module, .. }
            | Self::Discard { module, .. }
            | Self::Scale { module, .. }
            | Self::SetLimits { module, .. }
            | Self::Publish { module, .. }
            | Self::Unpublish { module, .. } => Some(module),
        }
    }

    /// Which group it is about.
    #[must_use]
    pub const fn group(&self) -> Option<&GroupName> {
        match self {
            Self::ApplyGroup { group, .. } | Self::RollbackGroup { group, .. } | Self::RemoveGroup { group, .. } => {
                Some(group)
            }
            _ => None,
        }
    }
}

/// An operation, as far as it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// What was asked.
    pub request: Request,
    /// How far it is.
    pub state: OperationState,
    /// Each step in the order they were taken.
    pub steps: Vec<StepRecord>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// What was given back (stop, restart, swap, rollback, discard, scale, uninstall).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// When it was accepted.
    #[schema(value_type = String)]
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ended: Option<Timestamp>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Accepted and on disk.
    Running,
    /// It did what was asked.
    Done,
    /// It did not; what was before still holds.
    Failed,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepRecord {
    /// Its name, as in the table of `docs/operations.md`.
    pub step: String,
    /// When it began.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// What there is to say of it: what was measured in a step of a rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// What ended, and what it gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Workers that ended.
    pub workers: u32,
    /// Processes left in their cgroups: 0, or the operation is not done.
    pub processes_left: u32,
    /// Cgroups removed.
    pub cgroups_removed: u32,
    /// Channels closed.
    pub channels_closed: u32,
    /// Descriptors that the supervisor held for them and closed.
    pub descriptors_closed: u32,
    /// Bytes charged to their cgroups just before they ended.
    pub memory_bytes: u64,
    /// Bytes on disk removed (uninstall).
    pub disk_bytes: u64,
    /// What a peer still holds, in words; empty when nothing is.
    pub still_held: Vec<String>,
    /// Workers that were frozen and are kept for a rollback.
    #[serde(default)]
    pub frozen: u32,
    /// Bytes charged to their cgroups when they were frozen.
    #[serde(default)]
    pub frozen_bytes: u64,
    /// Until when they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub frozen_until: Option<Timestamp>,
}
