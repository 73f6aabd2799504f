//! A base of one's own, with real sockets and channels and no supervisor: its ingress, its service, its page, calls by name.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use module_runtime::testing::{Harness, Running};
use mortise_base::{Base, HandlerBody, Limits};
use mortise_control::{HttpReach, HttpRoute, HttpTarget, ModuleName, ServiceName, WorkerId};
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Odd {
    pub why: String,
}

#[module_runtime::service(name = "adder", error = Odd)]
pub trait Adder {
    fn add(&self, a: i64, b: i64) -> Result<i64, Odd>;
    async fn sleep(&self, millis: u64) -> Result<(), Odd>;
}

struct Calculator;

impl Adder for Calculator {
    fn add(&self, a: i64, b: i64) -> Result<i64, Odd> {
        a.checked_add(b).ok_or_else(|| Odd { why: "too much".into() })
    }

    async fn sleep(&self, millis: u64) -> Result<(), Odd> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }
}

struct World {
    running: Running,
    ingress: SocketAddr,
    folder: tempfile::TempDir,
}

impl World {
    /// A base that runs, with its own `adder`, reachable by channels.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ingress = listener.local_addr().unwrap();
        let invoke = UnixListener::bind(folder.path().join("invoke.sock")).unwrap();
        let running = Harness::new("base")
            .base()
            .configuration("body_bytes", "1000")
            .inherit("ingress-0", listener)
            .inherit("invoke", invoke)
            .start()
            .unwrap();
        let page = tower::service_fn(|request: Request<HandlerBody>| async move {
            let path = request.uri().path().to_owned();
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(format!("page {path}")))))
        });
        let base = Base::new().handle("/healthz", page).run(running.worker());
        tokio::spawn(async move { base.await.unwrap() });
        running.serve_by_name(AdderServer::new(Calculator)).unwrap();
        Self { running, ingress, folder }
    }

    async fn get(&self, path: &str, body: usize) -> (u16, String) {
        let stream = TcpStream::connect(self.ingress).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "a").body(Full::new(Bytes::from(vec![0; body]))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn call(&self, method: &str, arguments: &Value, headers: &[(&str, &str)]) -> (u16, String) {
        let stream = UnixStream::connect(self.folder.path().join("invoke.sock")).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::post(format!("/call/{method}")).header("host", "base");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(arguments.to_string()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }
}

#[tokio::test]
async fn calls_by_name_are_json_both_ways() {
    let world = World::start();
    assert_eq!(world.call("adder/add", &json!({"a": 2, "b": 3}), &[]).await, (200, "5".into()));
    let tenant = world.running.worker().tenant().to_string();
    let own = [("mortise-tenant", tenant.as_str())];
    assert_eq!(world.call("adder/add", &json!({"b": 3, "a": -3}), &own).await, (200, "0".into()));
    let (status, error) = world.call("adder/add", &json!({"a": i64::MAX, "b": 1}), &[]).await;
    assert_eq!((status, serde_json::from_str(&error).unwrap()), (422, json!({"why": "too much"})));
}

#[tokio::test]
async fn calls_that_fail_say_why() {
    let world = World::start();
    let (status, error) = world.call("adder/add", &json!({"a": 1, "c": 1}), &[]).await;
    assert!(status == 400 && error.starts_with("invalid: adder.add") && error.contains('b'), "{status} {error}");
    let (status, error) = world.call("adder/subtract", &json!({}), &[]).await;
    assert!(status == 400 && error.contains("adder.subtract"), "{status} {error}");
    let (status, error) = world.call("adder/sleep", &json!({"millis": 60_000}), &[("mortise-timeout-ms", "50")]).await;
    assert!(status == 504 && error.starts_with("deadline: adder.sleep"), "{status} {error}");
    let (status, error) = world.call("addr/add", &json!({}), &[("mortise-timeout-ms", "50")]).await;
    assert!(status == 503 && error.starts_with("no-service: nobody answers addr"), "{status} {error}");
    let (status, error) = world.call("adder/add", &json!([1, 2]), &[]).await;
    assert!(status == 400 && error.contains("object"), "{status} {error}");
    let (status, error) = world.call("adder/add", &json!({}), &[("mortise-tenant", "other")]).await;
    assert!(status == 403 && error.contains("other"), "{status} {error}");
    let (status, _) = world.call("adder/add", &json!({}), &[("mortise-timeout-ms", "0")]).await;
    assert_eq!(status, 400);
    let (status, error) = world.call("adder/add", &json!({}), &[("mortise-tags", "Lane=x")]).await;
    assert!(status == 400 && error.contains("mortise-tags: \"Lane=x\""), "{status} {error}");
    let (status, error) = world.call("Adder/add", &json!({}), &[("accept", "application/json")]).await;
    let shape: Value = serde_json::from_str(&error).unwrap();
    assert_eq!((status, &shape["error"]), (400, &json!("invalid")));
    assert_eq!(world.call("adder", &json!({}), &[]).await.0, 404);
}

#[tokio::test]
async fn the_base_serves_pages_and_routes_at_once() {
    let world = World::start();
    assert_eq!(world.get("/healthz/x", 0).await, (200, "page /healthz/x".into()));
    world.running.route_http(1, Vec::new());
    assert_eq!(world.get("/site", 0).await.0, 404);
    let socket = world.folder.path().join("worker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let deadline = request.headers().contains_key(module_runtime::http::DEADLINE_HEADER);
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(format!("worker {deadline}")))))
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    let target = HttpTarget {
        worker: WorkerId { slot: 7, generation: 1 },
        module: ModuleName::new("site").unwrap(),
        version: semver::Version::new(1, 0, 0),
        weight: 1,
        version_weight: 1,
        socket,
        reach: HttpReach::Direct,
    };
    let service = ServiceName::new("site").unwrap();
    world.running.route_http(
        2,
        vec![HttpRoute {
            host: None,
            prefix: "/site".into(),
            service,
            targets: vec![target],
            rules: vec![],
            tags: vec![],
        }],
    );
    // The routes are on their way to the base's task.
    while world.get("/site", 0).await.0 == 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get("/site", 0).await, (200, "worker true".into()));
    assert_eq!(world.get("/site", 1001).await.0, 413, "the configuration counts");
}

#[tokio::test]
async fn what_cannot_be_a_base_says_so() {
    let no_base = Harness::new("base").start().unwrap();
    let error = Base::new().run(no_base.worker()).await.unwrap_err().to_string();
    assert!(error.contains("runtime = \"base\""), "{error}");
    let setting = Harness::new("base").base().configuration("headers", "no").start().unwrap();
    let error = Base::new().run(setting.worker()).await.unwrap_err().to_string();
    assert!(error.contains("headers = \"no\""), "{error}");
    let page = tower::service_fn(|_: Request<HandlerBody>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let twice = Harness::new("base").base().start().unwrap();
    let base = Base::new().limits(Limits::default()).handle("/a", page).handle("/a/", page);
    assert!(base.run(twice.worker()).await.unwrap_err().to_string().contains("two handlers"));
}
