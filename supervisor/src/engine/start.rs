//! The engine: what the loop owns, and how it comes to be.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::channels::Channels;
use super::control::Inbound;
use super::pages::Pages;
use super::publish::Publisher;
use super::report::{Controls, Report};
use super::requests::Requests;
use super::resources::{Charges, Resources};
use super::states::States;
use super::timers::Timers;
use super::workers::Workers;
use super::{EngineHandle, EventLog, Published, Submission, clock, figures};
use crate::api::HostStatus;
use crate::cgroup::Groups;
use crate::host::Enforcement;
use crate::lifecycle::{self, Action, Event, State};
use crate::logs::{LogSink, LogStore};
use crate::package::PackageStore;
use crate::spawn::{Inherited, Spawner};
use crate::store::{Records, Store, StoreError, StoreWriter};

/// Requests that wait for the loop. More are refused with `Unavailable`.
const SUBMISSIONS: usize = 64;

/// Answers of performers that wait for the loop. A performer with one more waits.
const REPORTS: usize = 256;

/// Messages of workers that wait for the loop. Their senders wait in turn, one message of each worker.
const INBOUND: usize = 64;

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// The numbers of the policy.
    pub config: lifecycle::Config,
    /// The store, open.
    pub store: Store,
    /// What was in it.
    pub records: Records,
    /// The packages.
    pub packages: Arc<PackageStore>,
    /// The groups.
    pub groups: Arc<Groups>,
    /// The way to workers' processes.
    pub spawner: Spawner,
    /// What this host enforces.
    pub enforcement: Enforcement,
    /// What a base inherits: `ingress-N`, `invoke`.
    pub listeners: Vec<Inherited>,
    /// Where the lines of workers are kept.
    pub logs: Arc<LogStore>,
    /// Where they go.
    pub sink: Arc<LogSink>,
    /// The supervisor and its host, for the status.
    pub host: HostStatus,
    /// The base's socket for calls by name.
    pub invoke_socket: Option<PathBuf>,
}

/// The loop and everything it owns. One per process; [`Engine::run`] runs it.
#[derive(Debug)]
pub struct Engine {
    pub(super) state: State,
    pub(super) first: Vec<Action>,
    /// What performing an action has made known, to be decided on before anything else.
    pub(super) pending: VecDeque<Event>,
    pub(super) timers: Timers,
    pub(super) store: StoreWriter,
    pub(super) requests: Requests,
    pub(super) workers: Workers,
    pub(super) channels: Channels,
    pub(super) states: States,
    pub(super) resources: Resources,
    pub(super) publisher: Publisher,
    pub(super) submissions: mpsc::Receiver<Submission>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) inbound: mpsc::Receiver<Inbound>,
    /// Workers of an earlier supervisor of which nobody knows yet whether they are there.
    pub(super) unsettled: usize,
    pub(super) settled: watch::Sender<bool>,
    pub(super) stopped: bool,
}

impl Engine {
    /// An engine on what the store holds. Nothing is done before [`Engine::run`]. To be called in the runtime that will run it.
    ///
    /// # Errors
    /// There is no thread to be had for the store.
    pub fn new(parts: Parts) -> Result<(Self, EngineHandle, Controls), StoreError> {
        let Parts { config, store, records, packages, groups, spawner, enforcement, .. } = parts;
        let (submit, submissions) = mpsc::channel(SUBMISSIONS);
        let (report, reports) = mpsc::channel(REPORTS);
        let (inbound_sender, inbound) = mpsc::channel(INBOUND);
        let (settled, watched) = watch::channel(false);
        let answer = report.clone();
        let store = StoreWriter::start(store, move |event| {
            // The loop has ended: nobody waits for this.
            let _ = answer.blocking_send(Report::Event(event));
        })?;
        let (pages, charges) = (Pages::default(), Charges::default());
        let published = Arc::new(Published {
            state: ArcSwap::default(),
            operations: ArcSwap::default(),
            changed: watch::Sender::new(0),
            events: Arc::new(EventLog::starting_at(records.meta.events_reserved)),
            logs: parts.logs,
            invoke_socket: parts.invoke_socket,
            figures: figures::reader(spawner.clone(), pages.clone(), charges.clone()),
        });
        let operations = records.operations.iter().map(|it| it.operation.clone()).collect();
        let (mut state, first) = State::restore(config, records, &clock::now());
        let mut publisher = Publisher::new(Arc::clone(&published), parts.host, operations);
        publisher.publish(&mut state);
        let engine = Self {
            state,
            first,
            pending: VecDeque::new(),
            timers: Timers::default(),
            store,
            requests: Requests::new(Arc::clone(&packages), spawner.clone(), report.clone()),
            workers: Workers {
                spawner,
                packages: Arc::clone(&packages),
                enforcement,
                listeners: parts.listeners,
                sink: parts.sink,
                pages,
                reports: report.clone(),
                inbound: inbound_sender,
                table: HashMap::new(),
                closed: HashMap::new(),
            },
            channels: Channels::default(),
            states: States::default(),
            resources: Resources::new(packages, groups, report.clone(), charges),
            publisher,
            submissions,
            reports,
            inbound,
            unsettled: 0,
            settled,
            stopped: false,
        };
        Ok((engine, EngineHandle::new(submit, published), Controls { reports: report, settled: watched }))
    }
}
