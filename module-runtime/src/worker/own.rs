//! Services that a worker answers to itself: its module has published what its own code, or an operator through its base, calls.
//! The supervisor makes no channel from a worker to itself; it says that the service is the worker's own, and the channel is made
//! here. The supervisor never hears of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_control::stats::Side;
use mortise_control::{ChannelId, Offer, PeerInfo, Phase, ServiceName};
use shm_rpc::{Client, Encoding, End, Geometry, SegmentError, Server, ServerControl};

use super::provider::Provider;
use super::shared::{Shared, State};
use crate::call::routes::Outgoing;
use crate::call::{Source, random};

/// Both ends of a channel of a worker with itself.
#[derive(Debug)]
pub(crate) struct Own {
    outgoing: Arc<Outgoing>,
    server: ServerControl,
}

impl Own {
    pub(crate) const fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// What was called before is still answered.
    fn end(&self) {
        self.outgoing.client.close();
        self.server.close();
    }
}

impl Shared {
    /// Its code serves these from now on.
    pub(crate) fn add_providers(self: &Arc<Self>, providers: Vec<Provider>) {
        let mut state = self.state();
        state.providers.extend(providers.into_iter().map(|it| (it.service.clone(), Arc::new(it))));
        self.attend_own(&mut state);
        let own: Vec<ServiceName> = state.own.keys().cloned().collect();
        own.iter().for_each(|it| state.apply_routes(it));
    }

    /// Makes the channels to itself that there should be, and ends the others.
    pub(crate) fn attend_own(self: &Arc<Self>, state: &mut State) {
        let serves = matches!(*self.phase.borrow(), Phase::Starting | Phase::Ready);
        let offered = state.told.values().filter(|it| serves && it.offer == Offer::Own);
        let mut wanted: Vec<Arc<Provider>> =
            offered.filter_map(|it| state.providers.get(&it.service)).map(Arc::clone).collect();
        state.own.retain(|service, own| {
            let stays = wanted.iter().any(|it| it.service == *service);
            if !stays {
                own.end();
            }
            stays
        });
        wanted.retain(|it| !state.own.contains_key(&it.service));
        for provider in wanted {
            let service = provider.service.clone();
            match self.call_itself(provider) {
                Ok(own) => drop(state.own.insert(service, own)),
                Err(error) => tracing::error!(%service, %error, "the worker cannot call its own service"),
            }
        }
    }

    fn call_itself(self: &Arc<Self>, provider: Arc<Provider>) -> Result<Own, SegmentError> {
        let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT)?;
        let boot = &self.boot;
        let peer = PeerInfo {
            worker: boot.worker,
            tenant: boot.tenant.clone(),
            module: boot.module.clone(),
            version: boot.version.clone(),
        };
        // By name: typed clients and calls by name share it.
        let encoding = Encoding::ByName;
        let counter = self.figures.counter(Side::Provided, &provider.service);
        let source = Source { service: provider.name, peer: Arc::new(peer), encoding, counter };
        let callee = Server::new(callee);
        let server = callee.control();
        let (shared, busy, control) = (Arc::clone(self), self.busy.begin(), server.clone());
        tokio::spawn(async move {
            if let Err(error) = provider.serve(callee, Arc::new(source)).await {
                tracing::error!(service = %provider.service, %error, "the worker's channel to itself broke");
            }
            shared.served.fetch_add(control.served(), Relaxed);
            drop(busy);
        });
        Ok(Own { outgoing: Arc::new(Outgoing::new(ChannelId(random()), Client::new(caller), encoding)), server })
    }

    /// The worker drains: it calls itself no more.
    pub(crate) fn close_own(&self) {
        let mut state = self.state();
        for (service, own) in std::mem::take(&mut state.own) {
            own.end();
            state.apply_routes(&service);
        }
    }
}
