//! A service of another tenant: by the word of three, and nothing to be learned without it.

use mortise_control::{Offer, ServiceRoute, TenantName};

use super::host::Host;
use super::world::*;
use crate::api::{ErrorCode, Request, TenantLimits};
use crate::lifecycle::{ModuleSpec, Package};

fn named(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn of(tenant: &str, request: Request) -> Request {
    let mut json = serde_json::to_value(request).unwrap();
    json["tenant"] = tenant.into();
    serde_json::from_value(json).unwrap()
}

fn install(host: &mut Host, tenant: &str, spec: ModuleSpec) {
    let Package { digest, spec } = spec.package();
    let digest = format!("{tenant}-{digest}");
    host.packages.insert(digest.clone(), Package { spec, digest: digest.clone() });
    host.done(Request::Install { tenant: named(tenant), digest });
}

fn run(host: &mut Host, tenant: &str, spec: ModuleSpec) {
    let text = spec.module.to_string();
    install(host, tenant, spec);
    host.done(of(tenant, start(&text)));
}

/// A module of acme that calls `orders`, and a tenant shop.
fn two_tenants() -> Host {
    let mut host = Host::new();
    for tenant in ["acme", "shop"] {
        host.done(Request::AddTenant { tenant: named(tenant), limits: TenantLimits::default() });
    }
    run(&mut host, "acme", module("caller", 1).calling("orders"));
    host
}

fn import(from: &str) -> Request {
    Request::Import { tenant: named("acme"), service: service("orders"), from: named(from) }
}

fn export(to: &str) -> Request {
    Request::Export { tenant: named("shop"), service: service("orders"), to: named(to) }
}

fn unexport() -> Request {
    Request::Unexport { tenant: named("shop"), service: service("orders"), to: named("acme") }
}

/// What the caller has been told of orders, and how often it was told anything.
fn told(host: &Host) -> (Option<ServiceRoute>, u64) {
    let process = &host.processes[&host.worker("caller")];
    let route = process.routes.iter().find(|it| it.service == service("orders")).cloned();
    (route, process.epoch)
}

fn channels(host: &Host) -> usize {
    host.processes.values().map(|it| it.channels.len()).sum::<usize>() / 2
}

fn reaches(host: &Host) -> bool {
    told(host).0.is_some_and(|it| it.offer == Offer::Published && !it.denied && !it.targets.is_empty())
}

#[test]
fn who_has_no_right_is_denied_and_learns_nothing_of_what_there_is() {
    let mut host = two_tenants();
    let own = told(&host).0.expect("a route");
    assert_eq!((own.offer, own.denied), (Offer::Nobody, false), "a name of its own that nobody publishes");
    host.done(import("shop"));
    let before = told(&host);
    let route = before.0.clone().expect("a route");
    assert_eq!((route.offer, route.denied, route.targets.len()), (Offer::Nobody, true, 0));
    // Nothing that shop does, short of letting acme call, makes a difference that acme can see.
    run(&mut host, "shop", module("orders", 1).exporting("orders"));
    assert_eq!(told(&host), before, "it runs");
    host.done(of("shop", publish("orders")));
    assert_eq!(told(&host), before, "it is published");
    host.done(export("default"));
    assert_eq!(told(&host), before, "it is exported to another");
    host.done(of("shop", restart("orders")));
    host.done(of("shop", unpublish("orders")));
    host.done(of("shop", stop("orders")));
    host.done(of("shop", uninstall("orders", None)));
    assert_eq!(told(&host), before, "it is gone");
    // Nor is a tenant that is there told from one that is not.
    host.done(import("nobody"));
    assert_eq!(told(&host).0, before.0);
    assert_eq!(channels(&host), 0);
}

#[test]
fn three_words_make_a_channel_and_each_of_them_ends_it() {
    let mut host = two_tenants();
    run(&mut host, "shop", module("orders", 1).exporting("orders"));
    host.done(of("shop", publish("orders")));
    host.done(export("acme"));
    assert!(!reaches(&host), "acme means a service of its own");
    host.done(import("shop"));
    assert!(reaches(&host));
    assert_eq!(channels(&host), 1);
    host.done(unexport());
    assert!(!reaches(&host) && told(&host).0.unwrap().denied);
    assert_eq!(channels(&host), 0, "the channel has gone when the operation has ended");
    host.done(export("acme"));
    assert!(reaches(&host), "an export has ended when callers can call");
    host.restart_supervisor();
    host.quiesce();
    assert!(reaches(&host), "it is on disk");
    host.done(Request::Unimport { tenant: named("acme"), service: service("orders") });
    assert!(!reaches(&host));
    assert_eq!(channels(&host), 0);
    assert_eq!(
        host.ask(Request::Unimport { tenant: named("acme"), service: service("orders") }).unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(host.ask(of("shop", import("shop"))).unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn what_its_author_does_not_export_is_not_exported() {
    let mut host = two_tenants();
    run(&mut host, "shop", module("orders", 1).serving("orders"));
    host.done(of("shop", publish("orders")));
    host.done(export("acme"));
    host.done(import("shop"));
    assert!(told(&host).0.unwrap().denied);
    // A version that does is reached as soon as it is in charge, and one that does not no more.
    install(&mut host, "shop", module("orders", 2).exporting("orders"));
    host.done(of("shop", swap("orders", 2)));
    assert!(reaches(&host));
    host.done(of("shop", swap("orders", 1)));
    assert!(!reaches(&host));
    assert_eq!(channels(&host), 0);
}

#[test]
fn an_import_comes_before_a_service_of_ones_own_and_leaves_that_to_nobody_else() {
    let mut host = two_tenants();
    run(&mut host, "acme", module("own", 1).serving("orders"));
    host.done(of("acme", publish("own")));
    assert!(reaches(&host));
    host.done(import("shop"));
    assert!(told(&host).0.unwrap().denied);
    assert_eq!(channels(&host), 0);
    // The same names of shop call shop's.
    run(&mut host, "shop", module("inside", 1).calling("orders"));
    run(&mut host, "shop", module("orders", 1).exporting("orders"));
    host.done(of("shop", publish("orders")));
    assert_eq!(channels(&host), 1);
}

#[test]
fn a_tenant_that_goes_leaves_no_right_to_who_gets_its_name() {
    let mut host = two_tenants();
    host.done(export("acme"));
    host.done(import("shop"));
    for request in [stop("caller"), uninstall("caller", None)] {
        host.done(of("acme", request));
    }
    host.done(Request::RemoveTenant { tenant: named("acme") });
    host.done(Request::AddTenant { tenant: named("acme"), limits: TenantLimits::default() });
    run(&mut host, "acme", module("caller", 1).calling("orders"));
    run(&mut host, "shop", module("orders", 1).exporting("orders"));
    host.done(of("shop", publish("orders")));
    host.done(import("shop"));
    assert!(told(&host).0.unwrap().denied);
}
