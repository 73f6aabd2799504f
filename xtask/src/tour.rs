//! The tour: README.md's console blocks, run as they stand there and compared with what stands under them.
//!
//! A block is ```` ```console ````; a line that begins with `$ ` is a command (lines ending in `\` go on), the lines until the next are
//! what it prints. In these, `[..]` stands for any text within a line and a line `...` for any number of lines.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;
use crate::command::root;

/// The address that the tour's commands use.
pub const ADDRESS: &str = "127.0.0.1:8080";

/// A command of the tour and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line in README.md, from 1.
    pub line: usize,
    /// As it is typed.
    pub command: String,
    /// What stands under it.
    pub expected: Vec<String>,
}

/// The steps between the heading `## heading` and the next of its level.
///
/// # Errors
/// The heading is not there, or no block is under it.
pub fn read(text: &str, heading: &str) -> Result<Vec<Step>, Failure> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut in_section, mut in_block) = (false, false);
    for (number, line) in text.lines().enumerate() {
        match line {
            "```console" if in_section => in_block = true,
            "```" => in_block = false,
            _ if !in_block && line.starts_with("## ") => in_section = &line[3..] == heading,
            _ if !in_block => {}
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { line: number + 1, command: command.to_owned(), expected: Vec::new() });
                }
                (None, Some(step)) if step.expected.is_empty() && step.command.ends_with('\\') => {
                    step.command.push('\n');
                    step.command.push_str(line);
                }
                (None, Some(step)) => step.expected.push(line.to_owned()),
                (None, None) => return Err(format!("README.md:{}: output without a command", number + 1).into()),
            },
        }
    }
    if steps.is_empty() {
        Err(format!("README.md has no console block under `## {heading}`").into())
    } else {
        Ok(steps)
    }
}

/// Runs the steps against a supervisor; prints each with what it answered.
///
/// # Errors
/// Says how many answers were wrong.
pub fn run(steps: &[Step], programs: &Path, socket: &Path, ingress: SocketAddr) -> Result<(), Failure> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.display());
    let mut wrong = 0;
    for step in steps {
        println!("$ {}", step.command);
        let output = Command::new("bash")
            .args(["-c", &step.command.replace(ADDRESS, &ingress.to_string())])
            .current_dir(root())
            .env("PATH", &path)
            .env("MORTISE_SOCKET", socket)
            .env("COLUMNS", "120")
            .stdin(Stdio::null())
            .output()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let text = text.replace(&ingress.to_string(), ADDRESS);
        let found: Vec<&str> = text.lines().map(str::trim_end).collect();
        println!("{}", found.join("\n"));
        let expected: Vec<&str> = step.expected.iter().map(|it| it.trim_end()).collect();
        if !matches(&expected, &found) {
            wrong += 1;
            println!("✗ README.md:{} says:\n{}\n", step.line, expected.join("\n"));
        }
    }
    println!("\ntour: {} passed, {wrong} failed", steps.len() - wrong);
    if wrong == 0 {
        Ok(())
    } else {
        Err(format!("{wrong} of {} answers were not what README.md says", steps.len()).into())
    }
}

fn matches(expected: &[&str], found: &[&str]) -> bool {
    match expected {
        [] => found.is_empty(),
        ["...", rest @ ..] => (0..=found.len()).any(|skipped| matches(rest, &found[skipped..])),
        [first, rest @ ..] => {
            found.split_first().is_some_and(|(line, more)| line_matches(first, line) && matches(rest, more))
        }
    }
}

fn line_matches(expected: &str, found: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == found,
        Some((before, after)) => found.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_and_nothing_else() {
        let text = "## A\n```console\n$ no\n```\n## Tour\n```console\n$ a \\\n  b\n1\n\n$ c\n```\n```toml\n$ no\n```\n## B\n```console\n$ no\n```\n";
        let steps = read(text, "Tour").unwrap();
        assert_eq!(steps[0], Step { line: 7, command: "a \\\n  b".into(), expected: vec!["1".into(), String::new()] });
        assert_eq!((steps[1].command.as_str(), steps.len()), ("c", 2));
        assert!(read(text, "None").is_err());
    }

    #[test]
    fn wildcards_match_within_and_across_lines() {
        assert!(matches(&["a [..] c", "...", "z"], &["a b c", "x", "y", "z"]));
        assert!(matches(&["..."], &[]));
        assert!(!matches(&["a [..] c"], &["a b d"]));
        assert!(!matches(&["a"], &["a", "b"]));
        assert!(!matches(&["a", "b"], &["a"]));
    }
}
