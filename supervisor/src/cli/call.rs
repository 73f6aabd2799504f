//! `mortise call`.

use std::io::Read as _;

use mortise_control::routing::tags;
use serde_json::Value;

use super::fault::{Done, Fault};
use super::session::Session;
use super::target::MethodTarget;

/// The longest arguments that are read from standard input: what the API takes.
const ARGUMENTS_MAX: u64 = 8 << 20;

/// `mortise call SERVICE.METHOD JSON`.
pub async fn call(session: &Session, target: &MethodTarget, arguments: &str, tags: &[String]) -> Done {
    let arguments = if arguments == "-" { standard_input()? } else { arguments.to_owned() };
    let arguments = arguments.trim();
    let given: Value = serde_json::from_str(arguments).map_err(|error| {
        let found: String = arguments.chars().take(60).collect();
        Fault::command_line(format!("the arguments {found:?} are not JSON: {error}"))
    })?;
    if !given.is_object() {
        let example = r#"'{"word": "isolasion", "most": 3}'"#;
        return Err(Fault::command_line(format!("arguments are given by name, as a JSON object like {example}")).into());
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("tenant", session.tenant.as_str());
    query.append_pair("timeout", &session.timeout.as_secs_f64().to_string());
    if !tags.is_empty() {
        let tags = tags.join(";");
        tags::read(&tags).map_err(|error| Fault::command_line(format!("--tag: {error}")))?;
        query.append_pair("tags", &tags);
    }
    let path = format!("/v1/call/{}/{}?{}", target.service, target.method, query.finish());
    let patience = session.timeout + std::time::Duration::from_secs(5);
    let answer = session.client.post_json(&path, arguments.as_bytes().to_vec(), patience).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| Fault::torn(&error))?;
    // Indented it is read best, by people; programs take either.
    session.screen.json(&answer)
}

fn standard_input() -> Result<String, Fault> {
    let mut text = String::new();
    std::io::stdin()
        .take(ARGUMENTS_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| Fault::command_line(format!("standard input: {error}")))?;
    if text.len() as u64 > ARGUMENTS_MAX {
        return Err(Fault::command_line(format!("standard input has more than {ARGUMENTS_MAX} bytes")));
    }
    Ok(text)
}
