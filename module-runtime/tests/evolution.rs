//! Two versions of a schema, side by side: what one of them does not know is left out.

use module_runtime::testing::Harness;
use module_runtime::{CallError, Failure, NO_FINGERPRINT, ServiceClient};

mod v1 {
    use serde::{Deserialize, Serialize};

    #[module_runtime::service(name = "render", error = String)]
    pub trait Render {
        fn render(&self, source: String) -> Result<Page, String>;
        fn removed(&self) -> Result<(), String>;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Page {
        pub html: String,
        pub gone: Option<u8>,
        pub version: u32,
    }
}

mod v2 {
    use serde::{Deserialize, Serialize};

    #[module_runtime::service(name = "render", error = String)]
    pub trait Render {
        fn render(&self, #[serde(default = "all")] most: u32, source: String) -> Result<Page, String>;
        fn outline(&self, source: String) -> Result<Vec<String>, String>;
    }

    fn all() -> u32 {
        u32::MAX
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Page {
        pub version: u32,
        #[serde(default)]
        pub contents: Vec<String>,
        pub html: String,
    }
}

/// As `v2`, written by somebody else, in another order.
mod v2_again {
    use serde::{Deserialize, Serialize};

    #[module_runtime::service(name = "render", error = String)]
    pub trait Render {
        fn outline(&self, source: String) -> Result<Vec<String>, String>;
        #[idempotent]
        async fn render(&self, most: u32, source: String) -> Result<Sheet, String>;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Sheet {
        pub version: u32,
        pub contents: Vec<String>,
        pub html: String,
    }
}

struct One;

impl v1::Render for One {
    fn render(&self, source: String) -> Result<v1::Page, String> {
        Ok(v1::Page { html: source, gone: Some(1), version: 1 })
    }
    fn removed(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Two;

impl v2::Render for Two {
    fn render(&self, most: u32, source: String) -> Result<v2::Page, String> {
        Ok(v2::Page { version: most.min(2), contents: vec!["a heading".into()], html: source })
    }
    fn outline(&self, source: String) -> Result<Vec<String>, String> {
        Ok(vec![source])
    }
}

#[test]
fn fingerprints_tell_schemas_apart_and_nothing_else() {
    let (one, two) = (v1::RenderClient::fingerprint(), v2::RenderClient::fingerprint());
    assert!(one != NO_FINGERPRINT && two != NO_FINGERPRINT && one != two);
    assert_eq!(two, v2_again::RenderClient::fingerprint());
}

#[tokio::test]
async fn an_old_caller_and_a_new_callee_understand_each_other() {
    let harness = Harness::new("render").start().unwrap();
    harness.serve_by_name(v2::RenderServer::new(Two)).unwrap();
    let old: v1::RenderClient = harness.worker().client();
    let page = old.render("text".into()).await.unwrap();
    assert_eq!(page, v1::Page { html: "text".into(), gone: None, version: 2 });
    match old.removed().await {
        Err(CallError::Failed(Failure::Invalid(message))) => assert!(message.contains("no method"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_caller_and_an_old_callee_understand_each_other() {
    let harness = Harness::new("render").start().unwrap();
    harness.serve_by_name(v1::RenderServer::new(One)).unwrap();
    let new: v2::RenderClient = harness.worker().client();
    let page = new.render(7, "text".into()).await.unwrap();
    assert_eq!(page, v2::Page { version: 1, contents: vec![], html: "text".into() });
}
