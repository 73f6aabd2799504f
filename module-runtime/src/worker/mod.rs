//! The worker as its author sees it, and what is behind it.
//!
//! ```text
//!   Worker, Serving          what the author holds
//!      │
//!   shared ── channels       Attach, Open, Close, Routes       ◀── control: messages of the supervisor's
//!      │      provider       a service's server, type erased
//!      │      drain, busy    what is in flight, and its end
//!      │      handover       state, from version to version
//!      └───── reports        ──────────────────────────────────▶ control: messages to the supervisor
//! ```

mod busy;
pub(crate) mod channels;
pub(crate) mod drain;
pub(crate) mod handover;
mod own;
pub(crate) mod provider;
mod reports;
mod serving;
pub(crate) mod shared;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mortise_control::{ModuleName, Role, ServiceName, TenantName, WorkerId};

pub(crate) use self::busy::Token;
pub use self::handover::StateWriter;
pub(crate) use self::reports::{Report, Reports};
pub use self::serving::Serving;
pub(crate) use self::shared::Shared;
use crate::base::Base;
use crate::call::{Caller, GenericClient, ServiceClient, ServiceServer};
use crate::{Error, NO_FINGERPRINT, Resource};

/// This worker: what it was given, and what it can do. Clones are the same worker.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Its id: the place in the supervisor's table and how often it has been used.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.shared.boot.worker
    }

    /// Whose module it runs.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        &self.shared.boot.tenant
    }

    /// Which module it runs.
    #[must_use]
    pub fn module(&self) -> &ModuleName {
        &self.shared.boot.module
    }

    /// Which version of it.
    #[must_use]
    pub fn version(&self) -> &semver::Version {
        &self.shared.boot.version
    }

    /// A configuration value, from module.toml or the operator.
    #[must_use]
    pub fn configuration(&self, key: &str) -> Option<&str> {
        self.shared.boot.configuration.get(key).map(String::as_str)
    }

    /// All configuration values.
    #[must_use]
    pub fn configurations(&self) -> &BTreeMap<String, String> {
        &self.shared.boot.configuration
    }

    /// A resource that module.toml requires: its bytes, mapped and never copied.
    ///
    /// # Errors
    /// [`Error::NoResource`] if it was not granted.
    pub fn resource(&self, name: &str) -> Result<Resource, Error> {
        let state = self.shared.state();
        let found = state.resources.values().find(|it| it.name().as_str() == name).cloned();
        found.ok_or_else(|| Error::NoResource { name: name.to_owned(), granted: list(state.resources.keys()) })
    }

    /// A typed client of a service that module.toml requires. Calls wait, within their deadline, while nobody answers it.
    ///
    /// # Panics
    /// Never for a client that `#[service]` has generated: its name was checked when it was compiled.
    #[must_use]
    pub fn client<C: ServiceClient>(&self) -> C {
        let service = ServiceName::new(C::SERVICE).expect("#[service] has checked the name");
        self.shared.note_client(&service, C::fingerprint());
        C::new(Caller::new(self.shared.routes(&service)))
    }

    /// A client of a service whose types this program does not know. From now on this worker's channels of the service carry
    /// fields by name.
    #[must_use]
    pub fn generic_client(&self, service: &ServiceName) -> GenericClient {
        self.shared.note_client(service, NO_FINGERPRINT);
        GenericClient::new(Caller::new(self.shared.routes(service)))
    }

    /// Answers the calls of a service, once [`Serving::run`] is called.
    pub fn serve<S: ServiceServer>(&self, server: S) -> Serving {
        self.serving().serve(server)
    }

    /// Serves nothing yet: for what is served under conditions, and for modules that only call others.
    pub fn serving(&self) -> Serving {
        Serving::new(Arc::clone(&self.shared))
    }

    /// The names of inherited descriptors that nobody has taken.
    #[must_use]
    pub fn inherited(&self) -> Vec<String> {
        self.shared.state().inherited.keys().cloned().collect()
    }

    /// Takes an inherited descriptor. (`http` is taken by [`crate::http::serve`].)
    ///
    /// # Errors
    /// [`Error::NotInherited`] if there is none, or none left.
    pub fn take_inherited(&self, name: &str) -> Result<OwnedFd, Error> {
        let mut state = self.shared.state();
        let missing = |there_are| Error::NotInherited { name: name.to_owned(), there_are };
        state.inherited.remove(name).ok_or_else(|| missing(list(state.inherited.keys())))
    }

    /// Takes an inherited listening TCP socket.
    ///
    /// # Errors
    /// [`Error::NotInherited`], or the kernel's answer if it is no listening socket.
    pub fn take_tcp_listener(&self, name: &str) -> Result<tokio::net::TcpListener, Error> {
        let listener = std::net::TcpListener::from(self.take_inherited(name)?);
        listener.set_nonblocking(true).map_err(Error::os("preparing an inherited listener"))?;
        tokio::net::TcpListener::from_std(listener).map_err(Error::os("preparing an inherited listener"))
    }

    /// Takes an inherited listening Unix stream socket.
    ///
    /// # Errors
    /// [`Error::NotInherited`], or the kernel's answer if it is no listening socket.
    pub fn take_unix_listener(&self, name: &str) -> Result<tokio::net::UnixListener, Error> {
        let listener = std::os::unix::net::UnixListener::from(self.take_inherited(name)?);
        listener.set_nonblocking(true).map_err(Error::os("preparing an inherited listener"))?;
        tokio::net::UnixListener::from_std(listener).map_err(Error::os("preparing an inherited listener"))
    }

    /// What only the base can do; none for other modules.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        (self.shared.boot.role == Role::Base).then(|| Base::new(Arc::clone(&self.shared)))
    }

    /// Resolves when the worker was told to drain or to end: jobs of its own should come to an end.
    pub async fn draining(&self) {
        use mortise_control::Phase;
        let mut phase = self.shared.phase.subscribe();
        let mut terminate = self.shared.terminate.subscribe();
        tokio::select! {
            _ = phase.wait_for(|it| matches!(it, Phase::Draining | Phase::Drained)) => {}
            _ = terminate.wait_for(|it| *it) => {}
        }
    }
}

fn list<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|it| it.to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
