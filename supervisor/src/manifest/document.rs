//! From the text of a TOML file to what it means, or everything that is wrong with it: for module.toml and for mortise.toml.

use serde::de::DeserializeOwned;
use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::bounds;
use super::check::Problem;
use super::report::{Fault, Report};
use super::structure::{KeyPath, Walk, span_of};

/// Reads a text of the shape of `F`, which `schema` describes; `meaning` checks its values.
///
/// # Errors
/// Everything that is wrong with it, at once; `file` is how the report calls it.
pub(crate) fn read<F: DeserializeOwned, T>(
    text: &str,
    file: &str,
    schema: &Schema,
    meaning: impl FnOnce(F) -> Result<T, Vec<Problem>>,
) -> Result<T, Report> {
    let report = |faults| Report::new(file, text, faults);
    if text.len() > bounds::SOURCE_MAX {
        let message = format!("the file has {} bytes", text.len());
        let allowed = format!("at most {}", bounds::SOURCE_MAX);
        return Err(report(vec![Fault { key: String::new(), span: 0..0, message, allowed }]));
    }
    let (tree, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return Err(report(syntax.iter().map(syntax_fault).collect()));
    }
    let mut walk = Walk::new(schema);
    let mut sound = tree.clone();
    walk.file(sound.get_mut());
    let mut faults = walk.faults;
    let meant = F::deserialize(Deserializer::from(sound)).map_err(|error| report(vec![syntax_fault(&error)]))?;
    match meaning(meant) {
        Ok(meant) if faults.is_empty() => return Ok(meant),
        Ok(_) => {}
        Err(problems) => {
            for problem in problems {
                // What has the wrong shape was taken out, and would be said to be missing.
                let said = faults.iter().any(|it| covers(&it.key, problem.key.as_str()));
                if !said {
                    faults.push(locate(&tree, problem));
                }
            }
        }
    }
    Err(report(faults))
}

/// The bytes as text.
///
/// # Errors
/// Where the first one is that is not UTF-8.
pub(crate) fn utf8<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Report> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let message = format!("the byte {:#04x} is not UTF-8", bytes[error.valid_up_to()]);
        let span = good.len()..good.len() + 1;
        Report::new(file, &good, vec![Fault { key: String::new(), span, message, allowed: "UTF-8 text".into() }])
    })
}

/// Every key of a text that has a value of its own, and the line of that value, from 1.
pub(crate) fn lines(text: &str) -> Vec<(String, usize)> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut lines = Vec::new();
    let mut tables = vec![(KeyPath::default(), tree.get_ref())];
    while let Some((path, table)) = tables.pop() {
        for (key, value) in table.iter() {
            let here = path.key(key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => tables.push((here, inner)),
                _ => lines.push((here.as_str().to_owned(), 1 + text[..value.span().start].matches('\n').count())),
            }
        }
    }
    lines
}

fn covers(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn locate(tree: &Spanned<DeTable<'_>>, problem: Problem) -> Fault {
    let span = span_of(tree, &problem.key);
    Fault { key: problem.key.as_str().to_owned(), span, message: problem.message, allowed: problem.allowed }
}

fn syntax_fault(error: &toml::de::Error) -> Fault {
    let mut lines = error.message().lines();
    let message = lines.next().unwrap_or("it is not TOML").to_owned();
    let allowed = lines.next().map_or_else(|| "TOML, see https://toml.io".to_owned(), str::to_owned);
    Fault { key: String::new(), span: error.span().unwrap_or(0..0), message, allowed }
}
