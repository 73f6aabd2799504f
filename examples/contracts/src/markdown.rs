//! The service `markdown`, in the two versions that the example module has.
//!
//! Version 2 answers more than version 1. The schemas differ, so a caller of one version and a callee of the other exchange
//! their messages by field name, and what one of them does not know is left out.

use serde::{Deserialize, Serialize};

/// Version 1: HTML only.
pub mod v1 {
    use super::{Deserialize, MarkdownError, Serialize};

    /// Turns Markdown into HTML.
    #[module_runtime::service(name = "markdown", error = MarkdownError)]
    pub trait Markdown {
        /// The document as HTML.
        #[idempotent]
        fn render(&self, source: String) -> Result<Rendered, MarkdownError>;
    }

    /// A rendered document.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Rendered {
        /// Its body.
        pub html: String,
        /// The version that rendered it.
        pub version: String,
    }
}

/// Version 2: HTML and the table of contents.
pub mod v2 {
    use super::{Deserialize, MarkdownError, Serialize};

    /// Turns Markdown into HTML.
    #[module_runtime::service(name = "markdown", error = MarkdownError)]
    pub trait Markdown {
        /// The document as HTML.
        #[idempotent]
        fn render(&self, source: String) -> Result<Rendered, MarkdownError>;
    }

    /// A rendered document.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Rendered {
        /// Its body.
        pub html: String,
        /// The version that rendered it.
        pub version: String,
        /// Its headings; empty from version 1, which does not know them.
        #[serde(default)]
        pub contents: Vec<Heading>,
    }

    /// A heading of a document.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Heading {
        /// 1 to 6.
        pub level: u8,
        /// The `id` of its element.
        pub anchor: String,
        /// Its text.
        pub text: String,
    }
}

/// Why a document was not rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkdownError {
    /// Longer than one call may have.
    TooLong {
        /// Its bytes.
        found: u64,
        /// How many are allowed.
        allowed: u64,
    },
}

impl std::fmt::Display for MarkdownError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong { found, allowed } => write!(f, "a document of {found} bytes; at most {allowed} are allowed"),
        }
    }
}

impl std::error::Error for MarkdownError {}
