//! `mortise route`: which versions answer what.

use std::collections::BTreeSet;
use std::path::Path;

use mortise_control::ServiceName;
use mortise_control::routing::{RouteFile, Routes};
use semver::Version;

use super::arguments::Route;
use super::fault::{Done, Fault};
use super::session::Session;
use super::{file, operations, units};
use crate::api::{ApiError, Blame, ErrorCode, ModuleStatus, Request, RoutesStatus, WorkerState};

/// `mortise route …`.
pub async fn route(session: &Session, asked: Route) -> Done {
    let tenant = session.tenant.clone();
    match asked {
        Route::Apply { file } => {
            let routes = read(&file)?;
            operations::change(session, Request::ApplyRoutes { tenant, routes: routes.clone() }).await?;
            if session.screen.json {
                return Ok(());
            }
            session.screen.print(&unanswered(&routes, &modules(session).await?))
        }
        Route::Show { service } => show(session, service.as_ref()).await,
        Route::Diff { file } => {
            let (now, then) = (in_force(session).await?, read(&file)?);
            let lines = diff(&text(&now.routes)?, &text(&then)?);
            if session.screen.json {
                return session.screen.json(&lines);
            }
            if lines.is_empty() {
                return session.screen.line("no difference");
            }
            session.screen.line(&lines.join("\n"))
        }
        Route::Rollback => operations::change(session, Request::RollbackRoutes { tenant }).await,
    }
}

async fn show(session: &Session, service: Option<&ServiceName>) -> Done {
    let mut now = in_force(session).await?;
    if let Some(service) = service {
        now.routes.tags.clear();
        now.routes.routes.retain(|it| it.service == service.as_str());
    }
    if session.screen.json {
        return session.screen.json(&now);
    }
    let Some(applied) = now.applied else {
        return session.screen.line(&format!(
            "# no routes: the version in charge answers every call of {}; `mortise route apply FILE` puts some in force",
            now.tenant
        ));
    };
    let since = units::since(applied, jiff::Timestamp::now());
    let earlier: Vec<String> = now.earlier.iter().map(u64::to_string).collect();
    let earlier = if earlier.is_empty() { "none".to_owned() } else { earlier.join(", ") };
    let head =
        format!("# routes of {}, number {}, for {since}; a rollback goes back to: {earlier}\n", now.tenant, now.number);
    let notes = unanswered(&now.routes, &modules(session).await?);
    session.screen.print(&format!("{head}{notes}{}", text(&now.routes)?))
}

async fn in_force(session: &Session) -> Result<RoutesStatus, Fault> {
    let all: Vec<RoutesStatus> = session.client.get(&session.of_tenant("/v1/routes")).await?;
    Ok(all.into_iter().next().unwrap_or_else(|| RoutesStatus {
        tenant: session.tenant.clone(),
        number: 0,
        applied: None,
        routes: RouteFile::default(),
        earlier: Vec::new(),
    }))
}

async fn modules(session: &Session) -> Result<Vec<ModuleStatus>, Fault> {
    session.client.get(&session.of_tenant("/v1/modules")).await
}

/// A line for each version that rules name and nobody runs: a typo, most likely, or a module that is still to come.
fn unanswered(file: &RouteFile, modules: &[ModuleStatus]) -> String {
    let Ok(routes) = Routes::check(file) else { return String::new() };
    let mut lines = String::new();
    for route in routes.routes.values() {
        let offers = |it: &&ModuleStatus| it.services.iter().any(|it| it.service == route.service);
        let answers = |version: &Version| {
            let workers = modules.iter().filter(offers).flat_map(|it| &it.workers);
            workers.into_iter().any(|it| it.version == *version && it.state == WorkerState::Published)
        };
        let missing: BTreeSet<&Version> = route.versions().filter(|it| !answers(it)).collect();
        for version in missing {
            lines +=
                &format!("# no worker answers {} in version {version}: its rules are passed over\n", route.service);
        }
    }
    lines
}

fn read(path: &Path) -> Result<RouteFile, Fault> {
    let shown = path.display();
    let text = file::read(path)?;
    let routes: RouteFile =
        toml::from_str(&text).map_err(|error| file::wrong(format!("{shown} is no file of routes: {error}")))?;
    Routes::check(&routes).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|it| format!("\n  {it}")).collect();
        file::wrong(format!("{shown} has faults:{}", faults.concat()))
    })?;
    Ok(routes)
}

fn text(file: &RouteFile) -> Result<String, Fault> {
    toml::to_string(file).map_err(|error| {
        ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("routes cannot be written as TOML: {error}")).into()
    })
}

/// The lines that differ, with `-` and `+` before them, by their longest common subsequence; empty if there are none.
fn diff(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // How many lines the parts from here on have in common.
    let width = after.len() + 1;
    let mut common = vec![0_u32; (before.len() + 1) * width];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            common[i * width + j] = match before[i] == after[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines, mut differs) = (0, 0, Vec::new(), false);
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            lines.push(format!("  {}", before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == after.len() || i < before.len() && common[(i + 1) * width + j] >= common[i * width + j + 1] {
            lines.push(format!("- {}", before[i]));
            (i, differs) = (i + 1, true);
        } else {
            lines.push(format!("+ {}", after[j]));
            (j, differs) = (j + 1, true);
        }
    }
    if differs { lines } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_has_each_line_once_and_says_which_side_it_is_of() {
        assert_eq!(diff("a\nb\nc", "a\nx\nc"), ["  a", "- b", "+ x", "  c"]);
        assert_eq!(diff("", "a"), ["+ a"]);
        assert_eq!(diff("a", ""), ["- a"]);
        assert!(diff("a\nb", "a\nb").is_empty());
    }
}
