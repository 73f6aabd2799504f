//! The deciding half of the supervisor: values in, values out.
//!
//! ```text
//!   engine ── Event, Now ──▶ State::step ── Vec<Action> ──▶ engine
//! ```
//!
//! [`State::step`] does no I/O, has no clock and no dice. It is level-triggered: an event changes what is known, then
//! whatever the change may have made necessary is worked out from the state as a whole, so that the same rules serve an
//! operation, a crash and the return of the supervisor after its own death.
//!
//! The way through it: `state` (events in, rules until nothing is left to do), `touched` (whose rules run), `journal` (what goes to
//! disk, and what follows when it is there). Then by subject: `requests`, `admission`, `refusals` and `operation`, `progress`;
//! `module`, `staffing`, `workers`, `messages`, `health`, `leaving`, `keeping`, `handover`, `rollout`, `gates`, `shadow`; `channel`,
//! `callers`, `reports`;
//! `ingress`, `routes`; `groups`, `lanes`; `tenants`, `quota`, `sharing`; `resources`;
//! `restore`, `stop`; `snapshot` (what is shown) and `marked` (what of it may have changed).

mod action;
mod admission;
mod callers;
mod channel;
mod config;
mod event;
mod gates;
mod groups;
mod handover;
mod health;
mod ids;
mod ingress;
mod journal;
mod keeping;
mod lanes;
mod leaving;
mod limits;
mod marked;
mod messages;
mod module;
mod operation;
mod progress;
mod quota;
mod refusals;
mod reports;
mod requests;
mod resources;
mod restore;
mod rollout;
mod routes;
mod shadow;
mod sharing;
mod slots;
mod snapshot;
mod spec;
mod staffing;
mod state;
mod step;
mod stop;
mod tenants;
mod timer;
mod touched;
mod turn;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

pub use action::{Action, AdoptOrder, SpawnOrder};
pub use config::Config;
pub use event::{Event, Exit, ExitStatus, Package, Remains, StartFault, Submitted};
pub use gates::Reading;
pub use ids::{CommitId, ModuleKey, Mono, Now, ResourceId, Ticket};
pub(crate) use ids::{DEFAULT_TENANT, default_tenant};
pub use spec::{Backoff, Handover, Health, HttpOffer, ModuleSpec, ProvidedService, RestartPolicy, Runtime, Timeouts};
pub use state::State;
pub use timer::Timer;
