//! A module tested without a supervisor: services and clients in one process, over real channels.
//!
//! ```
//! # use module_runtime::testing::Harness;
//! # #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! # pub struct Unknown;
//! #[module_runtime::service(name = "length", error = Unknown)]
//! pub trait Length {
//!     fn of(&self, word: String) -> Result<usize, Unknown>;
//! }
//!
//! struct Words(module_runtime::Resource);
//!
//! impl Length for Words {
//!     fn of(&self, word: String) -> Result<usize, Unknown> {
//!         let known = self.0.split(|b| *b == b' ').any(|it| it == word.as_bytes());
//!         known.then_some(word.len()).ok_or(Unknown)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a #[tokio::test]:
//! let harness = Harness::new("words").resource("words", b"one two three").start()?;
//! let words = harness.worker().resource("words")?;
//! harness.serve(LengthServer::new(Words(words)))?;
//! let length: LengthClient = harness.worker().client();
//! assert_eq!(length.of("three".into()).await.ok(), Some(5));
//! assert!(length.of("four".into()).await.is_err());
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mortise_control::{
    Attach, Boot, ChannelId, ChannelRole, Encoding, InheritedFd, ModuleName, Offer, PROTOCOL, PeerInfo, ResourceName,
    Role, ServiceName, ServiceRoute, Target, TenantName, Token, WorkerId,
};
use shm_rpc::{End, Geometry};

use crate::call::ServiceServer;
use crate::resource::Resource;
use crate::worker::provider::Provider;
use crate::worker::{Shared, drain};
use crate::{Error, Worker};

/// What the module under test will find.
#[derive(Debug)]
pub struct Harness {
    module: String,
    configuration: BTreeMap<String, String>,
    resources: Vec<(String, Vec<u8>)>,
    inherited: BTreeMap<String, OwnedFd>,
    geometry: Geometry,
    role: Role,
}

impl Harness {
    /// A worker of a module of this name.
    #[must_use]
    pub fn new(module: &str) -> Self {
        Self {
            module: module.to_owned(),
            configuration: BTreeMap::new(),
            resources: Vec::new(),
            inherited: BTreeMap::new(),
            geometry: Geometry::DEFAULT,
            role: Role::Sdk,
        }
    }

    /// As a base: [`Worker::base`] is there.
    #[must_use]
    pub fn base(mut self) -> Self {
        self.role = Role::Base;
        self
    }

    /// With a configuration value.
    #[must_use]
    pub fn configuration(mut self, key: &str, value: &str) -> Self {
        self.configuration.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a resource of these bytes.
    #[must_use]
    pub fn resource(mut self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.resources.push((name.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    /// With an inherited descriptor: `http` is a listening Unix stream socket.
    #[must_use]
    pub fn inherit(mut self, name: &str, fd: impl Into<OwnedFd>) -> Self {
        self.inherited.insert(name.to_owned(), fd.into());
        self
    }

    /// With channels of this size, to see how the module does when they are full.
    #[must_use]
    pub fn geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = geometry;
        self
    }

    /// Starts it, inside a tokio runtime.
    ///
    /// # Errors
    /// A name that is none; what the kernel refuses.
    pub fn start(self) -> Result<Running, Error> {
        let mut boot = boot_record("test");
        boot.module = ModuleName::new(&self.module)?;
        boot.role = self.role;
        boot.configuration = self.configuration;
        boot.inherited = self.inherited.keys().map(|name| InheritedFd { name: name.clone(), fd: -1 }).collect();
        let (shared, reports) = Shared::new(boot, self.inherited)?;
        // Nobody is there to be told.
        drop(reports);
        for (name, bytes) in self.resources {
            let name = ResourceName::new(&name)?;
            shared.state().resources.insert(name.clone(), Resource::from_bytes(name, &bytes)?);
        }
        Ok(Running { geometry: self.geometry, ..Running::of(shared) })
    }
}

/// The worker under test. It calls itself: what [`Running::serve`] serves is what its clients reach.
#[derive(Debug)]
pub struct Running {
    worker: Worker,
    geometry: Geometry,
    next_channel: AtomicU64,
}

impl Running {
    /// Sends HTTP routes, as the supervisor does to a base.
    pub fn route_http(&self, epoch: u64, routes: Vec<mortise_control::HttpRoute>) {
        // Nobody takes them unless the base does.
        let _ = self.worker.shared().http_routes.send((epoch, routes));
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { worker: Worker::new(shared), geometry: Geometry::DEFAULT, next_channel: AtomicU64::new(1) }
    }

    /// The worker, as a module's entry gets it.
    #[must_use]
    pub fn worker(&self) -> Worker {
        self.worker.clone()
    }

    /// Serves a service to the worker's own clients, over a channel with fields by position. A second server of the same
    /// service answers its share of the calls.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn serve<S: ServiceServer>(&self, server: S) -> Result<ChannelId, Error> {
        self.connect(server, Encoding::Positional)
    }

    /// As [`Running::serve`], with fields by name: as between two versions of a schema.
    ///
    /// # Errors
    /// As [`Running::serve`].
    pub fn serve_by_name<S: ServiceServer>(&self, server: S) -> Result<ChannelId, Error> {
        self.connect(server, Encoding::ByName)
    }

    fn connect<S: ServiceServer>(&self, server: S, encoding: Encoding) -> Result<ChannelId, Error> {
        let service = ServiceName::new(S::SERVICE)?;
        let shared = self.worker.shared();
        let refused = |error: shm_rpc::SegmentError| Error::other(error);
        let (caller, callee) = End::pair(self.geometry, self.geometry).map_err(refused)?;
        // A channel has one id; here both its ends are in one table.
        let number = self.next_channel.fetch_add(2, Relaxed);
        let callee_id = ChannelId(number);
        let provider = Arc::new(Provider::new(service.clone(), server));
        shared.state().providers.insert(service.clone(), provider);
        shared.begin(self.attach(callee_id, ChannelRole::Callee, &service, encoding), callee);
        self.call_through(caller, ChannelId(number + 1), service, encoding);
        Ok(callee_id)
    }

    /// Gives the worker's clients of a service the calling end of a channel.
    pub(crate) fn call_through(&self, caller: End, channel: ChannelId, service: ServiceName, encoding: Encoding) {
        let shared = self.worker.shared();
        shared.begin(self.attach(channel, ChannelRole::Caller, &service, encoding), caller);
        let told = shared.state().told.get(&service).cloned();
        let mut targets = told.map(|it| it.targets).unwrap_or_default();
        targets.push(Target { channel, weight: 1, version: None });
        self.route(ServiceRoute {
            service,
            offer: Offer::Published,
            denied: false,
            targets,
            rules: Vec::new(),
            shadow: None,
        });
    }

    /// Says what the supervisor says when the last worker that answers a service is one of a version beside, which is to be shadowed.
    #[cfg(test)]
    pub(crate) fn shadow(&self, service: &str, percent: u32) {
        let service = ServiceName::new(service).expect("a name");
        let told = self.worker.shared().state().told.get(&service).cloned();
        let mut route = told.expect("somebody answers it");
        let last = route.targets.last_mut().expect("somebody answers it");
        last.weight = 0;
        let channels = vec![last.channel];
        route.shadow = (percent > 0).then_some(mortise_control::shadow::ShadowRoute { run: 7, percent, channels });
        self.route(route);
    }

    /// Says what the supervisor says when a service is withdrawn, or was never published: nobody offers it.
    ///
    /// # Errors
    /// A name that is none.
    pub fn unpublish(&self, service: &str) -> Result<(), Error> {
        self.offer(service, Offer::Nobody)
    }

    /// Says what the supervisor says when a service is another tenant's and this worker has no right to it.
    ///
    /// # Errors
    /// A name that is none.
    pub fn deny(&self, service: &str) -> Result<(), Error> {
        let service = ServiceName::new(service)?;
        let (targets, rules) = (Vec::new(), Vec::new());
        self.route(ServiceRoute { service, offer: Offer::Nobody, denied: true, targets, rules, shadow: None });
        Ok(())
    }

    /// Says that a service is published and has no worker now.
    ///
    /// # Errors
    /// A name that is none.
    pub fn publish(&self, service: &str) -> Result<(), Error> {
        self.offer(service, Offer::Published)
    }

    pub(crate) fn offer(&self, service: &str, offer: Offer) -> Result<(), Error> {
        self.route(ServiceRoute {
            service: ServiceName::new(service)?,
            offer,
            denied: false,
            targets: Vec::new(),
            rules: Vec::new(),
            shadow: None,
        });
        Ok(())
    }

    /// Closes the callee's end of what [`Running::serve`] returned: calls that it has not taken go elsewhere.
    pub fn withdraw(&self, channel: ChannelId) {
        self.worker.shared().close(channel);
    }

    /// Drains the worker: resolves when nothing is in flight.
    pub async fn drain(&self) {
        drain::begin(self.worker.shared());
        drain::drained(self.worker.shared()).await;
    }

    fn route(&self, route: ServiceRoute) {
        let shared = self.worker.shared();
        let mut all = shared.state().told.clone();
        all.insert(route.service.clone(), route);
        shared.set_routes(0, all.into_values().collect());
    }

    fn attach(&self, channel: ChannelId, role: ChannelRole, service: &ServiceName, encoding: Encoding) -> Attach {
        let boot = &self.worker.shared().boot;
        let size = mortise_control::Geometry { slots: self.geometry.slots(), arena: self.geometry.arena() };
        let peer = PeerInfo {
            worker: boot.worker,
            tenant: boot.tenant.clone(),
            module: boot.module.clone(),
            version: boot.version.clone(),
        };
        Attach { channel, role, service: service.clone(), peer, encoding, caller: size, callee: size }
    }
}

/// A boot record as a supervisor writes it, for a module of this name.
pub(crate) fn boot_record(module: &str) -> Boot {
    Boot {
        protocol: PROTOCOL,
        worker: WorkerId { slot: 0, generation: 1 },
        role: Role::Sdk,
        tenant: TenantName::new("test").expect("a name"),
        module: ModuleName::new(module).expect("a name"),
        version: semver::Version::new(1, 0, 0),
        token: Token([7; 16]),
        control: PathBuf::from("/nonexistent/control.sock"),
        inherited: Vec::new(),
        configuration: BTreeMap::new(),
    }
}
