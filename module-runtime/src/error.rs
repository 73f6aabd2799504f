//! What can go wrong in a worker's own life, and who is to blame.

use mortise_control::{InvalidName, ResourceName, ServiceName};

/// Why a worker cannot go on. What the entry returns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The module asks for a resource that it was not granted: its module.toml does not name it, or the author mistyped it.
    #[error("there is no resource {name:?}: name it under [requires] resources in module.toml (granted: {granted})")]
    NoResource {
        /// The name asked for.
        name: String,
        /// Those that there are.
        granted: String,
    },
    /// A descriptor that came as a resource is not what was promised. The supervisor is to blame.
    #[error("the resource {name} cannot be used: {reason}")]
    Resource {
        /// Which resource.
        name: ResourceName,
        /// What is wrong with it.
        reason: String,
    },
    /// Two implementations of one service.
    #[error("the service {0} is served twice: serve each service once")]
    ServedTwice(ServiceName),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A descriptor that the worker should have inherited is missing: module.toml does not ask for it, or it was taken before.
    #[error(
        "there is no inherited descriptor {name:?} (there are: {there_are}); an HTTP service needs `http` under [[provides]] in module.toml"
    )]
    NotInherited {
        /// Which.
        name: String,
        /// Those that there are.
        there_are: String,
    },
    /// State is to be written and not to be read, or the other way round.
    #[error("the worker has {is} and no {lacks}: a version that hands state over has both")]
    HalfHandover {
        /// What there is.
        is: &'static str,
        /// What there is not.
        lacks: &'static str,
    },
    /// The kernel refused.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The author's own reason.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The author's own reason: a text or any error.
    pub fn other(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(reason.into())
    }

    pub(crate) fn os(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Os { doing, source }
    }
}
