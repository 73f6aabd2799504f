//! The module `site`: an axum application. What makes it a module is the one line at the end of `main`.

mod prose;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use example_contracts::markdown::v2::{Heading, MarkdownClient, Rendered};
use example_contracts::spell::{Misspelling, SpellClient};
use module_runtime::{CallError, Failure as Fate, Worker};

/// The longest document that can be posted.
const BYTES_MOST: usize = 1 << 20;

#[derive(Clone)]
struct Services {
    markdown: MarkdownClient,
    spell: SpellClient,
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let services = Services { markdown: worker.client(), spell: worker.client() };
    let application = Router::new()
        .route("/site", get(form))
        .route("/site/render", post(render))
        .route("/site/check", post(check))
        .layer(DefaultBodyLimit::max(BYTES_MOST))
        .with_state(services);
    module_runtime::http::serve(worker, application).await
}

async fn form() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Mortise</title><h1>Your document</h1><form method=post action=/site/render \
         enctype=text/plain><textarea name=text rows=20 cols=100># Teh title</textarea><p><button>Render</button></form>\n",
    )
}

/// Markdown in, the page out, with misspellings marked.
async fn render(State(services): State<Services>, source: String) -> Result<Html<String>, Failure> {
    let (page, wrong) = read(&services, source).await?;
    let contents: String = page.contents.iter().map(entry).collect();
    let contents = if contents.is_empty() { contents } else { format!("<nav><ul>{contents}</ul></nav>\n") };
    let marked = prose::mark(&page.html, &wrong);
    Ok(Html(format!(
        "<!doctype html><meta charset=utf-8><title>Document</title>\n{contents}{marked}<hr><p>{} misspelled; rendered by \
         markdown {}</p>\n",
        wrong.len(),
        prose::escape(&page.version)
    )))
}

/// Markdown in, a list of misspellings out: as text, a line each.
async fn check(State(services): State<Services>, source: String) -> Result<Response, Failure> {
    let (_, wrong) = read(&services, source).await?;
    let lines: String = wrong.iter().map(|it| format!("{}: {}\n", it.word, it.suggestions.join(", "))).collect();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response())
}

async fn read(services: &Services, source: String) -> Result<(Rendered, Vec<Misspelling>), Failure> {
    let page = services.markdown.render(source).await.map_err(Failure::new)?;
    let wrong = services.spell.check(prose::words(&page.html)).await.map_err(Failure::new)?;
    Ok((page, wrong))
}

fn entry(heading: &Heading) -> String {
    format!("<li><a href=\"#{}\">{}</a></li>", prose::escape(&heading.anchor), prose::escape(&heading.text))
}

/// A call that did not answer, as the HTTP answer to it.
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new<E: std::fmt::Display>(error: CallError<E>) -> Self {
        let status = match error.failure() {
            // The service's own error: the document is to blame.
            None => StatusCode::UNPROCESSABLE_ENTITY,
            Some(Fate::Deadline { .. }) => StatusCode::GATEWAY_TIMEOUT,
            Some(Fate::MaybeExecuted) => StatusCode::BAD_GATEWAY,
            Some(Fate::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(Fate::NoService | Fate::NotStarted | Fate::Draining | Fate::Overloaded { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json([("error", self.message)].into_iter().collect::<std::collections::BTreeMap<_, _>>()))
            .into_response()
    }
}
