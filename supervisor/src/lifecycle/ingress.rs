//! What bases are told: where HTTP requests go.

use mortise_control::{HttpReach, HttpRoute, HttpTarget, Role, WorkerId};

use super::module::Module;
use super::state::State;
use super::turn::Turn;
use super::worker::{LeaveStage, Worker};
use super::{Action, ModuleKey, Timer};

impl State {
    /// The rule for all bases.
    pub(super) fn attend_bases(&mut self, turn: &mut Turn<'_>) {
        self.tell_bases(turn);
        self.time_http_drains(turn);
    }

    fn tell_bases(&mut self, turn: &mut Turn<'_>) {
        // A process of an earlier supervisor that has not been heard yet may be serving: routes without it would break that.
        if self.is_recovering() {
            return;
        }
        let Some(incarnation) = self.epochs() else { return };
        let within = self.config.apply_within;
        let bases: Vec<WorkerId> = self.index.bases.iter().copied().collect();
        let told = |it: &Worker| it.connected() && it.condemned.is_none();
        if !bases.iter().any(|it| self.slots.get(*it).is_some_and(told)) {
            return;
        }
        let routes = self.http_routes();
        for id in bases {
            let Some(base) = self.slots.get_mut(id).filter(|it| told(it)) else { continue };
            if base.http.sent.as_ref() == Some(&routes) {
                continue;
            }
            base.next_epoch += 1;
            let epoch = incarnation | base.next_epoch;
            let targets: Vec<WorkerId> = routes.iter().flat_map(|it| &it.targets).map(|it| it.worker).collect();
            let first = base.http.sent.is_none();
            for (worker, out) in &mut base.http_users {
                if !targets.contains(worker) && out.is_none() {
                    *out = Some(epoch);
                    self.touched.workers.insert(*worker);
                }
            }
            for worker in targets {
                base.http_users.insert(worker, None);
            }
            base.http.sent = Some(routes.clone());
            base.http.epoch = epoch;
            base.http.unacknowledged.insert(epoch);
            turn.act(Action::SendHttpRoutes { worker: id, epoch, routes: routes.clone() });
            turn.timer(Timer::Routes { worker: id, epoch }, within);
            if first {
                self.suspect_all(id, epoch);
            }
        }
        self.touch_routing_operations();
    }

    /// A base that an earlier supervisor had told may be sending requests to any worker of that time.
    fn suspect_all(&mut self, base: WorkerId, epoch: u64) {
        if !self.slots.get(base).is_some_and(|it| it.adopted) {
            return;
        }
        let old: Vec<WorkerId> =
            self.slots.workers().filter(|it| it.adopted && it.alive() && it.provides_http()).map(|it| it.id).collect();
        if let Some(base) = self.slots.get_mut(base) {
            for worker in old {
                base.http_users.entry(worker).or_insert(Some(epoch));
            }
        }
    }

    fn http_routes(&self) -> Vec<HttpRoute> {
        let mut routes: Vec<HttpRoute> = Vec::with_capacity(self.index.http.len());
        for ((host, prefix), (key, service)) in &self.index.http {
            let targets = self.http_targets(key, service);
            let (mut rules, tags) = self.routes.of_requests(&key.tenant, service);
            rules.extend(self.modules.get(key).and_then(Module::sharing));
            let (host, prefix, service) = (host.clone(), prefix.clone(), service.clone());
            routes.push(HttpRoute { host, prefix, service, targets, rules, tags });
        }
        routes
    }

    /// Workers of the cohort in charge and of the one beside it; while not all in charge are ready, also those they will supersede.
    fn http_targets(&self, key: &ModuleKey, service: &mortise_control::ServiceName) -> Vec<HttpTarget> {
        let Some(module) = self.modules.get(key) else { return Vec::new() };
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        workers
            .filter(|it| it.stays() && (it.cohort <= module.record.cohort || module.is_beside(it.cohort)))
            .filter(|it| it.spec.provided(service).is_some_and(|it| it.http.is_some()))
            .map(|it| HttpTarget {
                worker: it.id,
                module: it.key.module.clone(),
                version: it.spec.version.clone(),
                weight: self.default_share(it),
                version_weight: self.share(it),
                socket: self.config.http_folder.join(format!("{}.sock", it.id)),
                reach: match it.role {
                    Role::Sdk | Role::Base => HttpReach::Direct,
                    Role::Http => HttpReach::Dial,
                },
            })
            .collect()
    }

    /// Whether no base sends requests to this worker any more.
    pub(super) fn http_idle(&self, id: WorkerId) -> bool {
        let mut bases = self.index.bases.iter().filter_map(|it| self.slots.get(*it));
        !bases.any(|it| it.alive() && it.http_users.contains_key(&id))
    }

    /// A worker that leaves gives its bases its drain time to finish their requests.
    fn time_http_drains(&mut self, turn: &mut Turn<'_>) {
        let leaving: Vec<WorkerId> = self
            .index
            .bases
            .iter()
            .filter_map(|it| self.slots.get(*it))
            .flat_map(|it| it.http_users.keys().copied())
            .collect();
        for id in leaving {
            if let Some(worker) = self.slots.get_mut(id)
                && worker.alive()
                && worker.leaving.as_ref().is_some_and(|it| it.stage == LeaveStage::Withdrawing)
                && !worker.http_timed
            {
                worker.http_timed = true;
                turn.timer(Timer::HttpDrain(id), worker.spec.timeouts.drain);
            }
        }
    }

    pub(super) fn http_drained(&mut self, base: WorkerId, worker: WorkerId) {
        let Some(base) = self.slots.get_mut(base) else { return };
        // Only of a worker that it was told to leave.
        if base.http_users.get(&worker).is_some_and(Option::is_some) {
            base.http_users.remove(&worker);
            self.touched.workers.insert(worker);
            self.touch_routing_operations();
        }
    }

    /// The time for bases to finish their requests to this worker is over.
    pub(super) fn http_over(&mut self, worker: WorkerId) {
        let bases: Vec<WorkerId> = self.index.bases.iter().copied().collect();
        for base in bases {
            if let Some(base) = self.slots.get_mut(base) {
                base.http_users.remove(&worker);
            }
        }
        self.touched.workers.insert(worker);
    }

    /// Whether every base has taken the newest routes.
    pub(super) fn http_in_force(&self) -> bool {
        if self.is_recovering() {
            return false;
        }
        let mut bases = self.index.bases.iter().filter_map(|it| self.slots.get(*it));
        bases.all(|it| !it.alive() || !it.connected() || (it.http.sent.is_some() && it.http.unacknowledged.is_empty()))
    }
}
