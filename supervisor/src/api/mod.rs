//! What the admin API says, as plain data: shared by the API's handlers, the CLI and the engine's snapshot.

mod error;
mod limits;
mod operation;
mod rollout;
mod shadow;
mod status;
mod stream;
mod tenant;

pub use error::{ApiError, Blame, ErrorCode};
pub use limits::{ModuleLimit, ModuleLimits};
pub use operation::{Operation, OperationId, OperationState, Receipt, Request, StepRecord};
pub use rollout::{Figure, Gate, Most, Rollout, Steering, min_calls};
pub use shadow::{Percentiles, ShadowExample, ShadowMethod, ShadowReport};
pub use status::{
    Desired, GroupModule, GroupStatus, HostStatus, InstalledVersion, KeptStatus, LimitsStatus, ModuleStatus,
    PressureStatus, ResourceStatus, RoutesStatus, RuntimeKind, ServiceFigures, ServiceStatus, Snapshot, WorkerState,
    WorkerStatus,
};
pub use stream::{Event, EventKind, LogLine, LogStream, Streamed};
pub use tenant::{TenantLimit, TenantLimits, TenantStatus, TenantUse};
