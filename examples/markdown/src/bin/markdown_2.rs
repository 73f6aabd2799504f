//! `markdown` 2.0: tables, footnotes and task lists, an anchor at every heading, and the table of contents.

use example_contracts::markdown::MarkdownError;
use example_contracts::markdown::v2::{Markdown, MarkdownServer, Rendered};
use module_runtime::Worker;

struct Renderer;

impl Markdown for Renderer {
    fn render(&self, source: String) -> Result<Rendered, MarkdownError> {
        example_markdown::check_length(&source)?;
        let (html, contents) = example_markdown::extended(&source);
        Ok(Rendered { html, version: "2.0".into(), contents })
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    worker.serve(MarkdownServer::new(Renderer)).run().await
}
