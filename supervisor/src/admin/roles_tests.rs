//! Every endpoint with every role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use mortise_control::TenantName;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use super::{AdminApi, Caller, Roles, Shared, Shutdown, openapi, routes};
use crate::api::{ApiError, Blame, ErrorCode, GroupStatus, ModuleStatus, Operation, RuntimeKind, Snapshot};
use crate::doctor::Places;
use crate::engine::{EngineHandle, EventLog, Published, Submission};
use crate::logs::LogStore;
use crate::package::PackageStore;

const OWN: u32 = 900;
/// Uids by what they are.
const WHO: [(&str, u32); 6] =
    [("operator", 1), ("owner", 2), ("other-owner", 3), ("owner-and-reader", 4), ("reader", 5), ("nobody", 6)];

fn tenant(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn roles() -> Roles {
    let of = |text| BTreeSet::from([tenant(text)]);
    Roles {
        operators: [1].into(),
        readers: [4, 5].into(),
        owners: BTreeMap::from([(2, of("acme")), (3, of("other")), (4, of("acme"))]),
    }
}

/// The admin API over an engine that refuses everything that reaches it as a conflict.
struct House {
    router: axum::Router,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

fn operation(id: &str, of: &str) -> Operation {
    let request = json!({"kind": "stop", "tenant": of, "module": "site"});
    let at = jiff::Timestamp::UNIX_EPOCH;
    let value = json!({"id": id, "request": request, "state": "done", "steps": [], "started": at});
    serde_json::from_value(value).unwrap()
}

fn module(of: &str, name: &str, runtime: RuntimeKind) -> Arc<ModuleStatus> {
    let value = json!({"tenant": of, "module": name, "runtime": runtime, "desired": "installed", "version": null,
        "installed": [], "services": [], "workers": []});
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A base that does not run, behind a newer version of the same module that is none.
fn base_in_disguise(of: &str, name: &str) -> Arc<ModuleStatus> {
    let version = |version, runtime| json!({"version": version, "runtime": runtime, "digest": "", "installed": jiff::Timestamp::UNIX_EPOCH});
    let installed = [version("9.0.0", RuntimeKind::Sdk), version("1.0.0", RuntimeKind::Base)];
    let mut value = serde_json::to_value(&*module(of, name, RuntimeKind::Sdk)).unwrap();
    value["installed"] = json!(installed);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A group that was declared when its module had no version that is a base.
fn group(of: &str, name: &str, module: &str) -> GroupStatus {
    let modules = json!([{"module": module, "version": "9.0.0", "earlier": "8.0.0"}]);
    let value = json!({"tenant": of, "group": name, "applied": jiff::Timestamp::UNIX_EPOCH, "modules": modules});
    serde_json::from_value(value).unwrap()
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let operations = [operation("mine", "acme"), operation("theirs", "other")];
        let state = Snapshot {
            modules: vec![
                module("acme", "site", RuntimeKind::Sdk),
                module("acme", "base", RuntimeKind::Base),
                base_in_disguise("acme", "disguised"),
            ],
            groups: vec![group("acme", "shop", "site"), group("acme", "platform", "disguised")],
            operations: operations.to_vec(),
            ..Snapshot::default()
        };
        let published = Arc::new(Published {
            state: ArcSwap::from_pointee(state),
            operations: ArcSwap::from_pointee(operations.into_iter().map(|it| (it.id.clone(), it)).collect()),
            changed: watch::Sender::new(0),
            events: Arc::new(EventLog::starting_at(0)),
            logs: Arc::new(LogStore::default()),
            invoke_socket: None,
            figures: Box::new(|_| {}),
        });
        let (submit, mut submitted) = mpsc::channel::<Submission>(4);
        tokio::spawn(async move {
            while let Some(it) = submitted.recv().await {
                let _ = it.answer.send(Err(ApiError::new(ErrorCode::Conflict, Blame::Caller, "reached")));
            }
        });
        let api = AdminApi {
            handle: EngineHandle::new(submit, published),
            packages: Arc::new(PackageStore::open(&folder.path().join("packages")).unwrap()),
            doctor: Places::default(),
            promises: Arc::new(crate::host::Report { findings: vec![] }),
            shutdown: Shutdown::default(),
            roles: Arc::default(),
        };
        let (stop, stopping) = watch::channel(true);
        Self { router: routes::router(Shared::new(api, stopping)), _stop: stop, _folder: folder }
    }

    async fn ask(&self, uid: u32, method: &Method, path: &str, body: &str) -> Response {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Caller::new(uid, OWN, &roles()));
        self.router.clone().oneshot(request).await.unwrap()
    }
}

async fn error(response: Response) -> ApiError {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

const READ_ALL: &[&str] = &["operator", "owner-and-reader", "reader"];
const READ: &[&str] = &["operator", "owner", "owner-and-reader", "reader"];
const CHANGE: &[&str] = &["operator", "owner", "owner-and-reader"];
const OPERATE: &[&str] = &["operator"];
const KNOWN: &[&str] = &["operator", "owner", "other-owner", "owner-and-reader", "reader"];

/// Route, what is asked for, with which body, and who may.
fn table() -> Vec<(&'static str, &'static str, String, &'static [&'static str])> {
    let get = |route, path, who| (route, path, String::new(), who);
    let change = |kind: &str, more: serde_json::Value, who| {
        let mut body = json!({"kind": kind, "tenant": "acme"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST /v1/operations", "/v1/operations", body.to_string(), who)
    };
    let site = json!({"module": "site"});
    let version = json!({"module": "site", "version": "1.0.0"});
    vec![
        get("GET /v1/modules", "/v1/modules", READ_ALL),
        get("GET /v1/modules", "/v1/modules?tenant=acme", READ),
        get("GET /v1/modules/{tenant}/{module}", "/v1/modules/acme/site", READ),
        get("GET /v1/modules/{tenant}/{module}/shadow", "/v1/modules/acme/site/shadow", READ),
        get("GET /v1/operations", "/v1/operations", READ_ALL),
        get("GET /v1/operations", "/v1/operations?tenant=acme", READ),
        get("GET /v1/routes", "/v1/routes", READ_ALL),
        get("GET /v1/routes", "/v1/routes?tenant=acme", READ),
        get("GET /v1/groups", "/v1/groups", READ_ALL),
        get("GET /v1/groups", "/v1/groups?tenant=acme", READ),
        get("GET /v1/tenants", "/v1/tenants", READ_ALL),
        get("GET /v1/tenants", "/v1/tenants?tenant=acme", READ),
        get("GET /v1/snapshot", "/v1/snapshot", READ_ALL),
        get("GET /v1/doctor", "/v1/doctor", READ_ALL),
        get("GET /v1/schema/module.toml", "/v1/schema/module.toml", KNOWN),
        get("GET /metrics", "/metrics", READ_ALL),
        get("GET /v1/events", "/v1/events", READ_ALL),
        get("GET /v1/events", "/v1/events?tenant=acme", READ),
        get("GET /v1/logs/{tenant}/{module}", "/v1/logs/acme/site", READ),
        change("install", json!({"digest": "ab".repeat(32)}), CHANGE),
        change("uninstall", site.clone(), CHANGE),
        change("start", site.clone(), CHANGE),
        change("set-limits", json!({"module": "site", "limits": {"memory_bytes": 67_108_864}}), CHANGE),
        change("set-limits", json!({"module": "base", "limits": {"pids": 9}}), OPERATE),
        change("start", json!({"module": "base"}), OPERATE),
        change("stop", json!({"module": "base"}), OPERATE),
        change("start", json!({"module": "disguised", "version": "1.0.0"}), OPERATE),
        change("stop", site.clone(), CHANGE),
        change("restart", site.clone(), CHANGE),
        change("swap", version.clone(), CHANGE),
        change("start-beside", version, CHANGE),
        change("steer-swap", json!({"module": "site", "to": "abort"}), CHANGE),
        change("steer-swap", json!({"module": "base", "to": "abort"}), OPERATE),
        change("share", json!({"module": "site", "percent": 5}), CHANGE),
        change("shadow", json!({"module": "site", "percent": 5}), CHANGE),
        change("rollback", site.clone(), CHANGE),
        change("discard", site.clone(), CHANGE),
        change("scale", json!({"module": "site", "instances": 2}), CHANGE),
        change("publish", site.clone(), CHANGE),
        change("unpublish", site, CHANGE),
        change("apply-routes", json!({"routes": {}}), CHANGE),
        change("rollback-routes", json!({}), CHANGE),
        change("apply-group", json!({"group": "shop", "modules": {"site": "1.0.0"}}), CHANGE),
        change("apply-group", json!({"group": "shop", "modules": {"site": "1.0.0", "base": "1.0.0"}}), OPERATE),
        change("rollback-group", json!({"group": "shop"}), CHANGE),
        change("rollback-group", json!({"group": "platform"}), OPERATE),
        change("remove-group", json!({"group": "shop"}), CHANGE),
        change("export", json!({"service": "site", "to": "other"}), CHANGE),
        change("unexport", json!({"service": "site", "to": "other"}), CHANGE),
        change("import", json!({"service": "site", "from": "other"}), CHANGE),
        change("unimport", json!({"service": "site"}), CHANGE),
        change("add-tenant", json!({}), OPERATE),
        change("set-tenant", json!({"lift": ["workers"]}), OPERATE),
        change("remove-tenant", json!({}), OPERATE),
        ("POST /v1/packages", "/v1/packages?tenant=acme", "no package".into(), CHANGE),
        ("POST /v1/call/{service}/{method}", "/v1/call/site/hello?tenant=acme", "{}".into(), CHANGE),
        ("POST /v1/upgrade", "/v1/upgrade", json!({"binary": "/nowhere/mortised"}).to_string(), OPERATE),
        // The last: what it does cannot be undone.
        ("POST /v1/shutdown", "/v1/shutdown", String::new(), OPERATE),
    ]
}

#[tokio::test]
async fn every_endpoint_answers_those_who_may_and_denies_all_others() {
    let house = House::new();
    for (route, path, body, who) in table() {
        let method: Method = route.split_once(' ').unwrap().0.parse().unwrap();
        for (name, uid) in WHO {
            // Nothing is to be stopped here by one who may.
            if route == "POST /v1/shutdown" && name == "operator" {
                continue;
            }
            let response = house.ask(uid, &method, path, &body).await;
            let denied = response.status() == StatusCode::FORBIDDEN;
            assert_eq!(denied, !who.contains(&name), "{name}: {method} {path} {body}: {}", response.status());
            if denied {
                let error = error(response).await;
                assert_eq!(error.code, ErrorCode::Denied);
                assert!(error.message.contains(&format!("uid {uid}")), "{error:?}");
                assert!(error.remedy.is_some_and(|it| it.contains("role")), "which role it takes: {route}");
            }
        }
    }
}

#[test]
fn every_endpoint_and_every_change_is_in_the_table() {
    let table = table();
    let tested: BTreeSet<String> = table.iter().map(|it| it.0.to_owned()).collect();
    let mut all = BTreeSet::new();
    for (path, item) in &openapi().paths.paths {
        for (method, operation) in
            [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put), ("DELETE", &item.delete)]
        {
            if operation.is_some() {
                all.insert(format!("{method} {path}"));
            }
        }
    }
    // An operation is of a tenant, and the test below asks for it.
    assert!(all.remove("GET /v1/operations/{id}"));
    assert_eq!(all, tested);
    let schema = serde_json::to_value(openapi()).unwrap();
    let kinds = schema["components"]["schemas"]["Request"]["oneOf"].as_array().unwrap().iter();
    let kinds: BTreeSet<String> =
        kinds.map(|it| it["properties"]["kind"]["enum"][0].as_str().unwrap().to_owned()).collect();
    let bodies = table.iter().filter(|it| it.0 == "POST /v1/operations");
    let asked: BTreeSet<String> = bodies
        .map(|it| serde_json::from_str::<serde_json::Value>(&it.2).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, asked);
}

#[tokio::test]
async fn an_operation_of_another_tenant_is_one_that_there_is_not() {
    let house = House::new();
    let ask = async |uid, id: &str| {
        let response = house.ask(uid, &Method::GET, &format!("/v1/operations/{id}"), "").await;
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask(2, "mine").await.0, StatusCode::OK);
    assert_eq!(ask(5, "theirs").await.0, StatusCode::OK);
    let (theirs, none) = (ask(2, "theirs").await, ask(2, "nobodys").await);
    assert_eq!(theirs.0, StatusCode::NOT_FOUND);
    let named = |text: &[u8], id: &str| String::from_utf8_lossy(text).replace(id, "ID");
    assert_eq!(named(&theirs.1, "theirs"), named(&none.1, "nobodys"), "nothing tells them apart");
    // Whatever is asked about what is another's is answered alike whether it is there or not.
    for path in ["/v1/modules/acme/site", "/v1/modules/acme/nothing", "/v1/logs/acme/site", "/v1/logs/acme/nothing"] {
        let refused = error(house.ask(3, &Method::GET, path, "").await).await;
        assert_eq!(refused.message, "uid 3 may not read the state of the tenant acme", "{path}");
    }
    for module in ["site", "base", "nothing"] {
        let body = json!({"kind": "stop", "tenant": "acme", "module": module}).to_string();
        let refused = error(house.ask(3, &Method::POST, "/v1/operations", &body).await).await;
        assert_eq!(refused.message, "uid 3 may not change the tenant acme", "{module}");
    }
}
