//! `mortise shadow`: what the version beside would answer, on real calls.

use std::fmt::Write as _;

use mortise_control::ModuleName;

use super::arguments::Shadow;
use super::fault::Done;
use super::screen::{Screen, visible};
use super::session::Session;
use super::{operations, units};
use crate::api::{Percentiles, Request, ShadowMethod, ShadowReport};

/// `mortise shadow …`.
pub async fn shadow(session: &Session, asked: Shadow) -> Done {
    let tenant = session.tenant.clone();
    match asked {
        Shadow::Start { module, percent } => {
            operations::change(session, Request::Shadow { tenant, module, percent: percent.get() }).await
        }
        Shadow::Stop { module } => operations::change(session, Request::Shadow { tenant, module, percent: 0 }).await,
        Shadow::Report { module } => report(session, &module).await,
    }
}

/// Which module it is about.
pub const fn module(asked: &Shadow) -> &ModuleName {
    match asked {
        Shadow::Start { module, .. } | Shadow::Stop { module } | Shadow::Report { module } => module,
    }
}

async fn report(session: &Session, module: &ModuleName) -> Done {
    let report: ShadowReport = session.client.get(&format!("/v1/modules/{}/{module}/shadow", session.tenant)).await?;
    if session.screen.json {
        return session.screen.json(&report);
    }
    session.screen.print(&head(&report, module))?;
    if report.methods.is_empty() {
        return Ok(());
    }
    let columns = ["METHOD", "COMPARED", "EQUAL", "DIFFERENT", "FAILED", "SKIPPED", "P50", "P99"];
    let mut table = session.screen.table(&columns);
    for it in &report.methods {
        let pair = |of: fn(&Percentiles) -> Option<u64>| {
            let time = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), units::latency);
            format!("{} → {}", time(of(&it.charge)), time(of(&it.beside)))
        };
        table.add_row([
            name(it),
            it.compared.to_string(),
            it.equal.to_string(),
            it.different.to_string(),
            it.failed.to_string(),
            it.skipped.to_string(),
            pair(|it| it.p50_ns),
            pair(|it| it.p99_ns),
        ]);
    }
    session.screen.show(&table)?;
    session.screen.print(&examples(session.screen, &report))
}

fn name(it: &ShadowMethod) -> String {
    format!("{}.{}", it.service, visible(&it.method))
}

fn head(report: &ShadowReport, module: &ModuleName) -> String {
    let charge = report.version.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
    let share = match report.percent {
        0 => "no more calls go to both".to_owned(),
        percent => format!("{percent} % of the calls of idempotent methods go to both"),
    };
    let none = if report.methods.is_empty() { "; none was compared yet" } else { "" };
    format!("{module} {charge}→ {}: {share}{none}\n", report.beside)
}

fn examples(screen: Screen, report: &ShadowReport) -> String {
    let mut text = String::new();
    for method in &report.methods {
        for it in &method.examples {
            let place = if it.path.is_empty() { "the answer" } else { &it.path };
            let (charge_time, beside_time) = (units::latency(it.charge_ns), units::latency(it.beside_ns));
            let _ = writeln!(
                text,
                "{}  {}: {} → {}  ({} → {} bytes, {charge_time} → {beside_time})",
                name(method),
                screen.paint.warn(&visible(place)),
                visible(&it.charge),
                visible(&it.beside),
                it.charge_bytes,
                it.beside_bytes,
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Paint;

    #[test]
    fn a_difference_names_the_field_and_says_what_each_version_has_there() {
        let example = json!({"path": ".words[3]", "charge": "none", "beside": "text of 5 bytes", "charge_bytes": 9,
            "beside_bytes": 14, "charge_ns": 1_500, "beside_ns": 2_000_000});
        let method = json!({"service": "spell", "method": "check", "compared": 3, "equal": 2, "different": 1, "failed": 0,
            "skipped": 0, "charge": {"p50_ns": 1_000}, "beside": {}, "examples": [example]});
        let report = json!({"version": "1.0.0", "beside": "2.0.0", "percent": 5, "methods": [method]});
        let mut report: ShadowReport = serde_json::from_value(report).unwrap();
        let screen = Screen { json: false, paint: Paint::PLAIN, terminal: false };
        let said = examples(screen, &report);
        assert_eq!(said, "spell.check  .words[3]: none → text of 5 bytes  (9 → 14 bytes, 2µs → 2.0ms)\n");
        let spell = ModuleName::new("spell").unwrap();
        assert_eq!(head(&report, &spell), "spell 1.0.0 → 2.0.0: 5 % of the calls of idempotent methods go to both\n");
        (report.percent, report.methods) = (0, Vec::new());
        assert_eq!(head(&report, &spell), "spell 1.0.0 → 2.0.0: no more calls go to both; none was compared yet\n");
    }
}
