//! Control groups, v1 and v2, behind one small type.
//!
//! ```text
//!   Layout::detect()        which hierarchies are mounted, and where this process is in each
//!     └─ Groups::open()     one parent group `mortise-HASH` below it
//!          └─ t-TENANT      a group per tenant, with its quota, while it has leaves
//!               └─ Group    a leaf per worker and per resource: limits, figures, freeze, kill, remove; the base's has no tenant
//! ```

mod error;
mod figures;
mod group;
mod groups;
mod kill;
mod layout;
mod limits;
mod own_leaf;
mod tenants;
#[cfg(test)]
mod tests;

pub use error::{CgroupError, RemoveError};
pub use figures::{Figures, Pressure};
pub use group::Group;
pub use groups::{Groups, Swept};
pub use layout::{Controller, Layout};
pub use limits::{Limits, Quota};
pub use own_leaf::step_aside;
