//! When what happened, as the journal of operations tells it.

use jiff::Timestamp;
use serde_json::Value;

/// From acceptance to the end.
pub fn whole(operation: &Value) -> Option<u64> {
    between(&operation["started"], &operation["ended"])
}

/// The store's commits that it waited for: that of its acceptance, and that by which it puts others in charge.
pub fn commits(operation: &Value) -> Option<u64> {
    let steps = operation["steps"].as_array()?;
    let spans = steps.windows(2).filter(|it| ["accept", "commit"].iter().any(|step| it[0]["step"] == *step));
    spans.map(|it| between(&it[0]["at"], &it[1]["at"])).sum()
}

/// All of it but those.
pub fn without_commits(operation: &Value) -> Option<u64> {
    whole(operation)?.checked_sub(commits(operation)?)
}

/// When a step began, since 1970, in nanoseconds.
pub fn began(operation: &Value, step: &str) -> Option<u64> {
    let step = operation["steps"].as_array()?.iter().find(|it| it["step"] == step)?;
    since_1970(step["at"].as_str()?)
}

/// From the commit, when it is on disk, until every caller has left the old workers.
pub fn flip(operation: &Value) -> Option<u64> {
    let left = began(operation, "drain").or_else(|| began(operation, "freeze"))?;
    left.checked_sub(began(operation, "flip")?)
}

fn between(from: &Value, to: &Value) -> Option<u64> {
    since_1970(to.as_str()?)?.checked_sub(since_1970(from.as_str()?)?)
}

/// Nanoseconds since 1970 of `2026-01-02T03:04:05.678Z`.
fn since_1970(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_apart_also_over_midnight_and_a_leap_day() {
        let between = |from: &str, to: &str| between(&json!(from), &json!(to));
        assert_eq!(between("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:06.000000001Z"), Some(500_000_001));
        assert_eq!(between("2026-12-31T23:59:59Z", "2027-01-01T00:00:01Z"), Some(2_000_000_000));
        assert_eq!(between("2028-02-28T00:00:00Z", "2028-03-01T00:00:00Z"), Some(2 * 86_400_000_000_000));
        assert_eq!(since_1970("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(since_1970("2026-11-27T00:00:00Z"), Some(1_795_737_600_000_000_000));
        assert_eq!(between("yesterday", "2026-01-03T00:00:01Z"), None);
    }

    #[test]
    fn commits_are_counted_apart() {
        let at = |second: u32| format!("2026-01-02T03:04:{second:02}Z");
        let step = |step: &str, second| json!({"step": step, "at": at(second)});
        let steps = [step("accept", 0), step("start", 2), step("commit", 10), step("flip", 13), step("drain", 14)];
        let operation = json!({"started": at(0), "ended": at(20), "steps": steps});
        let seconds = |it: Option<u64>| it.map(|it| it / 1_000_000_000);
        assert_eq!(seconds(whole(&operation)), Some(20));
        assert_eq!(seconds(commits(&operation)), Some(5));
        assert_eq!(seconds(without_commits(&operation)), Some(15));
        assert_eq!(seconds(flip(&operation)), Some(1));
    }
}
