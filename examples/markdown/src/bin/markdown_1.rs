//! `markdown` 1.0: CommonMark to HTML.

use example_contracts::markdown::MarkdownError;
use example_contracts::markdown::v1::{Markdown, MarkdownServer, Rendered};
use module_runtime::Worker;

struct Renderer;

impl Markdown for Renderer {
    fn render(&self, source: String) -> Result<Rendered, MarkdownError> {
        example_markdown::check_length(&source)?;
        Ok(Rendered { html: example_markdown::plain(&source), version: "1.0".into() })
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    worker.serve(MarkdownServer::new(Renderer)).run().await
}
