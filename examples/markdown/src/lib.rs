//! Markdown to HTML: what the two versions share, and what the second adds.

use std::collections::HashMap;

use example_contracts::markdown::MarkdownError;
use example_contracts::markdown::v2::Heading;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The longest document.
pub const BYTES_MOST: usize = 1 << 20;

/// Refuses documents longer than [`BYTES_MOST`].
///
/// # Errors
/// Says how long it is and may be.
pub fn check_length(source: &str) -> Result<(), MarkdownError> {
    if source.len() <= BYTES_MOST {
        return Ok(());
    }
    Err(MarkdownError::TooLong { found: source.len() as u64, allowed: BYTES_MOST as u64 })
}

/// CommonMark, and nothing beyond it. HTML in the source is shown as text.
#[must_use]
pub fn plain(source: &str) -> String {
    let mut out = String::with_capacity(source.len() * 3 / 2);
    html::push_html(&mut out, Parser::new(source).map(shown_as_text));
    out
}

/// CommonMark with tables, footnotes, task lists and strikethrough, an anchor at every heading, and the table of contents.
#[must_use]
pub fn extended(source: &str) -> (String, Vec<Heading>) {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<Event<'_>> = Parser::new_ext(source, options).map(shown_as_text).collect();
    let mut contents = Vec::new();
    let mut used = HashMap::new();
    let mut open = None;
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { level, .. }) => open = Some((at, *level as u8, String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, _, heading)) = &mut open {
                    heading.push_str(text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let Some((start, level, text)) = open.take() else { continue };
                let anchor = anchor(&text, &mut used);
                if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
                    *id = Some(CowStr::from(anchor.clone()));
                }
                contents.push(Heading { level, anchor, text });
            }
            _ => {}
        }
    }
    let mut out = String::with_capacity(source.len() * 3 / 2);
    html::push_html(&mut out, events.into_iter());
    (out, contents)
}

/// Documents come from strangers: their HTML must not become ours.
fn shown_as_text(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Image { link_type, dest_url: harmless(dest_url), title, id })
        }
        other => other,
    }
}

/// Links that are relative or lead to the web or a mailbox stay; `javascript:` and its like do not.
fn harmless(url: CowStr<'_>) -> CowStr<'_> {
    // What browsers skip inside a scheme must not hide it.
    let bare: String = url.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    let scheme = bare.split_once(':').map(|(scheme, _)| scheme).filter(|it| !it.contains(['/', '?', '#']));
    match scheme.map(str::to_ascii_lowercase).as_deref() {
        None | Some("http" | "https" | "mailto") => url,
        Some(_) => CowStr::from("#"),
    }
}

fn anchor(text: &str, used: &mut HashMap<String, usize>) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_alphanumeric() => slug.push(c),
            ' ' | '-' | '_' if !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    let slug = slug.trim_matches('-').to_owned();
    let count = used.entry(slug.clone()).or_insert(0);
    *count += 1;
    if *count == 1 { slug } else { format!("{slug}-{count}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_knows_tables_and_headings_and_version_1_does_not() {
        let source = "# A *b* `c`\n\n# A b c\n\n| x |\n|---|\n| 1 |\n";
        assert!(!plain(source).contains("<table>"));
        let (html, contents) = extended(source);
        assert!(html.contains("<table>") && html.contains("<h1 id=\"a-b-c\">"), "{html}");
        let anchors: Vec<&str> = contents.iter().map(|it| it.anchor.as_str()).collect();
        assert_eq!(anchors, ["a-b-c", "a-b-c-2"]);
    }

    #[test]
    fn no_html_and_no_script_of_the_source_survives() {
        let source = "<script>x</script>\n\na <b>c</b> [l](javascript:x) [m](java\tscript:x) ![i](DATA:x) [ok](/a:b)";
        for html in [plain(source), extended(source).0] {
            assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
            assert!(
                !html.to_lowercase().contains("href=\"java") && !html.to_lowercase().contains("src=\"data"),
                "{html}"
            );
            assert!(html.contains("href=\"/a:b\""), "{html}");
        }
    }

    #[test]
    fn a_document_has_a_longest_length() {
        assert!(check_length(&"x".repeat(BYTES_MOST)).is_ok());
        let error = check_length(&"x".repeat(BYTES_MOST + 1)).unwrap_err();
        assert_eq!(error, MarkdownError::TooLong { found: 1_048_577, allowed: 1_048_576 });
    }
}
