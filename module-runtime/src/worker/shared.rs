//! What all parts of a worker share: who it is, what it serves and calls, its channels, where it is in its life.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mortise_control::{
    Boot, ChannelId, ChannelReport, Hello, HttpRoute, PROTOCOL, Phase, ResourceName, ServiceDeclaration, ServiceName,
    ServiceRoute, ToSupervisor, Welcome, WorkerId, stats::Side,
};
use tokio::sync::{mpsc, watch};

use super::busy::Busy;
use super::channels::Channel;
use super::drain::BeforeDrained;
use super::handover::Handover;
use super::own::Own;
use super::provider::Provider;
use super::reports::{Report, Reports};
use crate::Error;
use crate::call::routes::Routes;
use crate::figures::Figures;
use crate::resource::Resource;
use crate::schema::NO_FINGERPRINT;

/// The most reports of an idle worker that are told again after a reconnect.
const HTTP_DRAINED_MOST: usize = 256;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) boot: Boot,
    pub(crate) figures: Arc<Figures>,
    pub(crate) reports: Reports,
    pub(crate) phase: watch::Sender<Phase>,
    /// The process was asked to end.
    pub(crate) terminate: watch::Sender<bool>,
    /// The supervisor has accepted the worker at least once.
    pub(crate) welcomed: watch::Sender<bool>,
    pub(crate) busy: Busy,
    /// Calls and requests answered over channels and connections that have ended.
    pub(crate) served: AtomicU64,
    pub(crate) http_routes: mpsc::UnboundedSender<(u64, Vec<HttpRoute>)>,
    state: Mutex<State>,
}

/// What changes. Never held across an await.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) resources: BTreeMap<ResourceName, Resource>,
    pub(crate) inherited: BTreeMap<String, OwnedFd>,
    pub(crate) providers: BTreeMap<ServiceName, Arc<Provider>>,
    /// Fingerprints of the services that its code calls by typed clients.
    pub(crate) clients: BTreeMap<ServiceName, u64>,
    pub(crate) routes: HashMap<ServiceName, Arc<Routes>>,
    pub(crate) channels: HashMap<ChannelId, Channel>,
    /// As the supervisor told last; channels in it may be opened later. A service that is missing has not been told of.
    pub(crate) told: BTreeMap<ServiceName, ServiceRoute>,
    /// Services that this worker answers to itself.
    pub(crate) own: BTreeMap<ServiceName, Own>,
    pub(crate) wanted: BTreeSet<ServiceName>,
    /// The last reports of this kind: one may be lost with the supervisor that it was sent to, so they are told to its successor.
    pub(crate) http_drained: VecDeque<WorkerId>,
    pub(crate) http_routes: Option<mpsc::UnboundedReceiver<(u64, Vec<HttpRoute>)>>,
    pub(crate) before_drained: Vec<BeforeDrained>,
    /// How its code hands state over, once it has said so.
    pub(crate) handover: Option<Arc<Handover>>,
}

impl Shared {
    pub(crate) fn new(
        boot: Boot,
        inherited: BTreeMap<String, OwnedFd>,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Report>), Error> {
        let (reports, receiver) = Reports::new();
        let (http_routes, http_routes_receiver) = mpsc::unbounded_channel();
        let state = State { inherited, http_routes: Some(http_routes_receiver), ..State::default() };
        let shared = Self {
            boot,
            figures: Figures::new().map_err(Error::os("making the figures page"))?,
            reports,
            phase: watch::Sender::new(Phase::Starting),
            terminate: watch::Sender::new(false),
            welcomed: watch::Sender::new(false),
            busy: Busy::default(),
            served: AtomicU64::new(0),
            http_routes,
            state: Mutex::new(state),
        };
        Ok((Arc::new(shared), receiver))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first message of a connection.
    pub(crate) fn hello(&self) -> Hello {
        let state = self.state();
        let (services, clients) = state.declarations();
        Hello {
            protocol: PROTOCOL,
            worker: self.boot.worker,
            token: self.boot.token,
            phase: *self.phase.borrow(),
            services,
            clients,
            state: state.handover.as_ref().map(|it| it.version),
            channels: state.channels.iter().filter_map(|(id, channel)| channel.report(*id)).collect(),
        }
    }

    /// Takes what came with the answer to the hello.
    pub(crate) fn welcome(&self, welcome: Welcome, fds: Vec<OwnedFd>) {
        if welcome.protocol.abs_diff(PROTOCOL) > 1 {
            tracing::error!(
                supervisor = welcome.protocol,
                worker = PROTOCOL,
                "the supervisor's protocol is more than one version away: build the module with a matching SDK"
            );
        }
        let mut fds = fds.into_iter();
        match fds.next() {
            Some(page) => {
                if let Err(error) = self.figures.move_to(page) {
                    tracing::error!(%error, "figures are not shown to the supervisor");
                }
            }
            None => tracing::error!("the welcome has no figures page"),
        }
        for grant in welcome.resources {
            let Some(fd) = fds.next() else {
                tracing::error!(resource = %grant.name, "the welcome has no descriptor for a resource");
                break;
            };
            match Resource::map(grant.name.clone(), fd, grant.len) {
                Ok(resource) => drop(self.state().resources.insert(grant.name, resource)),
                Err(error) => tracing::error!(%error, "a resource is refused"),
            }
        }
        let state = self.state();
        for service in &state.wanted {
            self.reports.send(ToSupervisor::Want { service: service.clone() });
        }
        for worker in &state.http_drained {
            self.reports.send(ToSupervisor::HttpDrained { worker: *worker });
        }
        state.routes.values().for_each(|it| it.tell_again());
        drop(state);
        self.welcomed.send_replace(true);
    }

    /// The supervisor is gone. Channels that it had not finished died with it: their peers will never see them.
    pub(crate) fn disconnected(&self) {
        self.state().channels.retain(|_, channel| !matches!(channel, Channel::Attached(_)));
    }

    /// Tells the supervisor what the worker's code serves and calls by now.
    pub(crate) fn declare(&self) {
        let state = self.state();
        let (services, clients) = state.declarations();
        let state = state.handover.as_ref().map(|it| it.version);
        self.reports.send(ToSupervisor::Declare { services, clients, state });
    }

    /// The routes of a service, empty until the supervisor has told them.
    pub(crate) fn routes(&self, service: &ServiceName) -> Arc<Routes> {
        let mut state = self.state();
        if let Some(routes) = state.routes.get(service) {
            return Arc::clone(routes);
        }
        let counter = self.figures.counter(Side::Required, service);
        let routes = Arc::new(Routes::new(service.clone(), counter, self.reports.clone()));
        state.routes.insert(service.clone(), Arc::clone(&routes));
        state.apply_routes(service);
        routes
    }

    /// Notes a typed client; told at once if the worker has declared itself before.
    pub(crate) fn note_client(&self, service: &ServiceName, fingerprint: u64) {
        let mut state = self.state();
        let known = state.clients.get(service).copied();
        // Two clients of different schemas over one channel: it carries fields by name.
        let noted = if known.is_none_or(|it| it == fingerprint) { fingerprint } else { NO_FINGERPRINT };
        state.clients.insert(service.clone(), noted);
        drop(state);
        if known != Some(noted) && *self.phase.borrow() != Phase::Starting {
            self.declare();
        }
    }

    pub(crate) fn note_http_drained(&self, worker: WorkerId) {
        let mut state = self.state();
        if state.http_drained.len() == HTTP_DRAINED_MOST {
            state.http_drained.pop_front();
        }
        state.http_drained.push_back(worker);
        drop(state);
        self.reports.send(ToSupervisor::HttpDrained { worker });
    }
}

impl State {
    fn declarations(&self) -> (Vec<ServiceDeclaration>, Vec<ServiceDeclaration>) {
        let declare =
            |service: &ServiceName, fingerprint: u64| ServiceDeclaration { service: service.clone(), fingerprint };
        let services = self.providers.values().map(|it| declare(&it.service, it.fingerprint)).collect();
        let clients = self.clients.iter().map(|(service, fingerprint)| declare(service, *fingerprint)).collect();
        (services, clients)
    }
}

impl Channel {
    fn report(&self, channel: ChannelId) -> Option<ChannelReport> {
        let held = self.held()?;
        Some(ChannelReport { channel, role: held.role, service: held.service.clone(), peer: held.peer })
    }
}
