//! The lines that a benchmark prints, as a table for people.

use serde_json::Value;
use xtask::Failure;

/// What is shown, in this order, and under which heading.
const COLUMNS: [(&str, &str); 12] = [
    ("case", "case"),
    ("message", "message"),
    ("wait", "wait"),
    ("placement", "placement"),
    ("distance", "CPUs"),
    ("p50_ns", "p50"),
    ("p99_ns", "p99"),
    ("limit_p50_ns", "limit"),
    ("ratio", "× limit"),
    ("apart_p50_ns", "limit apart"),
    ("apart_ratio", "× apart"),
    ("at_most", "at most"),
];

/// One row per line; a column that no line has is left out.
pub fn table(lines: &[String]) -> Result<String, Failure> {
    let rows = lines.iter().map(|line| parse(line)).collect::<Result<Vec<_>, _>>()?;
    let columns = COLUMNS.iter().filter(|(key, _)| rows.iter().any(|row| row.get(*key).is_some()));
    let columns: Vec<Vec<String>> = columns
        .map(|(key, heading)| {
            let cells = rows.iter().map(|row| row.get(*key).map_or_else(String::new, |value| cell(key, value)));
            std::iter::once((*heading).to_owned()).chain(cells).collect()
        })
        .collect();
    let widths: Vec<usize> =
        columns.iter().map(|it| it.iter().map(|it| it.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in 0..=rows.len() {
        let cells = columns.iter().zip(&widths).enumerate().map(|(column, (cells, width))| {
            let cell = &cells[row];
            // Words to the left, numbers to the right.
            if cell.starts_with(|c: char| c.is_ascii_digit()) || (row == 0 && is_number(&columns[column])) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn is_number(column: &[String]) -> bool {
    column[1..].iter().all(|it| it.starts_with(|c: char| c.is_ascii_digit()))
}

pub fn parse(line: &str) -> Result<Value, Failure> {
    serde_json::from_str(line)
        .map_err(|error| format!("a benchmark printed {line:?}, which is no JSON: {error}").into())
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if key.ends_with("_ns") => time(number.as_f64().unwrap_or(f64::NAN)),
        Value::Number(number) => format!("{:.2}", number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Nanoseconds, in the unit that leaves two or three digits before the point.
pub fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e4 => format!("{:.1} µs", ns / 1e3),
        _ if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_columns_that_its_lines_have() {
        let lines = [
            r#"{"bench":"ipc","case":"raw-spin","p50_ns":113,"ratio":1.104,"at_most":1.15}"#,
            r#"{"bench":"ipc","case":"bulk-1m","p50_ns":68123,"ratio":12.5,"at_most":1.05}"#,
        ];
        let expected = "case         p50  × limit  at most\n\
                        raw-spin  113 ns     1.10     1.15\n\
                        bulk-1m    68 µs    12.50     1.05\n";
        assert_eq!(table(&lines.map(str::to_owned)).unwrap(), expected);
        assert!(table(&["no JSON".to_owned()]).is_err());
    }

    #[test]
    fn times_have_two_or_three_digits() {
        assert_eq!([99.6, 1234.0, 51_600.0, 2.5e6].map(time), ["100 ns", "1.2 µs", "52 µs", "2.5 ms"]);
    }
}
