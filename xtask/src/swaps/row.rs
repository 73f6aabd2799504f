//! A line of figures.

use serde_json::{Map, Value, json};
use xtask::ledger::Audit;

/// What one case came to: the figures that apply to it.
#[derive(Clone, Debug)]
pub struct Row {
    case: String,
    figures: Map<String, Value>,
}

/// The columns of the table for people, and of what is printed as JSON the order.
const COLUMNS: [&str; 11] = [
    "kills",
    "count",
    "failed",
    "lost",
    "duplicated",
    "late",
    "p50_ns",
    "p99_ns",
    "against_ns",
    "commits_p50_ns",
    "ratio",
];

impl Row {
    pub fn new(case: impl Into<String>) -> Self {
        Self { case: case.into(), figures: Map::new() }
    }

    pub fn with(mut self, figure: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(figure.to_owned(), value.into());
        self
    }

    /// How often, and how long it took.
    pub fn times(self, mut took: Vec<u64>) -> Self {
        took.sort_unstable();
        let row = self.with("count", took.len());
        row.with("p50_ns", share(&took, 0.5)).with("p99_ns", share(&took, 0.99))
    }

    /// What became of calls.
    pub fn fates(self, audit: &Audit) -> Self {
        let Audit { failed, lost, duplicated, late, .. } = *audit;
        self.with("failed", failed).with("lost", lost).with("duplicated", duplicated).with("late", late)
    }

    /// How many times `against` a figure is.
    pub fn ratio(self, figure: u64, against: u64) -> Self {
        let ratio = (figure as f64 / against as f64 * 100.0).round() / 100.0;
        self.with("against_ns", against).with("ratio", ratio)
    }

    pub fn number(&self, figure: &str) -> u64 {
        self.figures.get(figure).and_then(Value::as_u64).unwrap_or(0)
    }

    pub fn json(&self) -> Value {
        let mut line = Map::from_iter([("case".to_owned(), json!(self.case))]);
        line.extend(COLUMNS.iter().filter_map(|it| Some(((*it).to_owned(), self.figures.get(*it)?.clone()))));
        line.into()
    }

    pub fn heading() -> String {
        let columns: String = COLUMNS.iter().map(|it| format!(" {:>11}", it.replace("_ns", " ms"))).collect();
        format!("{:<24}{columns}", "case")
    }

    pub fn text(&self) -> String {
        let cell = |column: &&str| match self.figures.get(*column) {
            None => format!(" {:>11}", ""),
            Some(value) if column.ends_with("_ns") => format!(" {:>11.2}", value.as_f64().unwrap_or(f64::NAN) / 1e6),
            Some(value) => format!(" {value:>11}"),
        };
        format!("{:<24}{}", self.case, COLUMNS.iter().map(cell).collect::<String>()).trim_end().to_owned()
    }
}

/// The value below which that share of them lies.
pub fn share(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_figures_that_apply() {
        assert_eq!((share(&[1, 2, 3, 4], 0.5), share(&[1, 2, 3, 4], 0.99), share(&[], 0.5)), (2, 4, 0));
        let row = Row::new("swap").times(vec![3_000_000, 1_000_000, 2_000_000]).ratio(3, 2);
        let line = json!({"case": "swap", "count": 3, "p50_ns": 2_000_000, "p99_ns": 3_000_000, "against_ns": 2, "ratio": 1.5});
        assert_eq!(row.json(), line);
        assert_eq!(row.text().split_whitespace().collect::<Vec<_>>(), ["swap", "3", "2.00", "3.00", "0.00", "1.5"]);
    }
}
