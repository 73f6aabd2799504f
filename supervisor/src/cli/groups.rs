//! `mortise group`: versions of several modules that change together.

use std::collections::BTreeMap;
use std::path::Path;

use mortise_control::{GroupName, ModuleName};
use semver::Version;
use serde::Deserialize;

use super::arguments::Group;
use super::fault::{Done, Fault};
use super::session::Session;
use super::{file, milliseconds, operations, units};
use crate::api::{ApiError, Blame, ErrorCode, GroupStatus, Request};

/// The file of `mortise group apply`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
    group: GroupName,
    modules: BTreeMap<ModuleName, Version>,
}

/// `mortise group …`.
pub async fn group(session: &Session, asked: Group) -> Done {
    let tenant = session.tenant.clone();
    match asked {
        Group::Apply { file, keep } => {
            let GroupFile { group, modules } = read(&file)?;
            let keep_ms = keep.map(milliseconds);
            operations::change(session, Request::ApplyGroup { tenant, group, modules, keep_ms }).await
        }
        Group::Rollback { group, keep } => {
            let keep_ms = keep.map(milliseconds);
            operations::change(session, Request::RollbackGroup { tenant, group, keep_ms }).await
        }
        Group::Rm { group } => operations::change(session, Request::RemoveGroup { tenant, group }).await,
        Group::Show { group } => show(session, &group).await,
        Group::Ls => list(session).await,
    }
}

async fn all(session: &Session) -> Result<Vec<GroupStatus>, Fault> {
    session.client.get(&session.of_tenant("/v1/groups")).await
}

async fn show(session: &Session, group: &GroupName) -> Done {
    let groups = all(session).await?;
    let Some(found) = groups.iter().find(|it| it.group == *group) else {
        let message = format!("the tenant {} has no group {group}", session.tenant);
        return Err(Fault::from(
            ApiError::new(ErrorCode::NotFound, Blame::Caller, message)
                .remedy("`mortise group ls` lists those that are; `mortise group apply FILE` declares one."),
        )
        .into());
    };
    if session.screen.json {
        return session.screen.json(found);
    }
    let mut table = session.screen.table(&["MODULE", "WANTED", "RUNS", "EARLIER", "ALSO IN"]);
    let or_none = |it: &Option<Version>| it.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    for it in &found.modules {
        let others = groups.iter().filter(|other| other.group != found.group);
        let others = others.filter(|other| other.modules.iter().any(|of| of.module == it.module));
        let others: Vec<&str> = others.map(|other| other.group.as_str()).collect();
        let others = if others.is_empty() { "-".to_owned() } else { others.join(", ") };
        let (wanted, runs, earlier) = (it.version.to_string(), or_none(&it.runs), or_none(&it.earlier));
        table.add_row([it.module.to_string(), wanted, runs, earlier, others]);
    }
    session.screen.show(&table)
}

async fn list(session: &Session) -> Done {
    let groups = all(session).await?;
    if session.screen.json {
        return session.screen.json(&groups);
    }
    let now = jiff::Timestamp::now();
    let mut table = session.screen.table(&["GROUP", "APPLIED", "STATE", "MODULES"]);
    for it in &groups {
        let runs = it.modules.iter().filter(|it| it.runs.as_ref() == Some(&it.version)).count();
        let state = match it.modules.len() {
            all if all == runs => "as declared".to_owned(),
            all => format!("{runs} of {all} as declared"),
        };
        let modules: Vec<String> = it.modules.iter().map(|it| format!("{}@{}", it.module, it.version)).collect();
        table.add_row([it.group.to_string(), units::since(it.applied, now) + " ago", state, modules.join(", ")]);
    }
    session.screen.show(&table)
}

fn read(path: &Path) -> Result<GroupFile, Fault> {
    let shown = path.display();
    let text = file::read(path)?;
    parse(&text).map_err(|error| {
        let wrong = ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{shown} is no file of a group: {error}"));
        wrong.remedy("It has `group = \"NAME\"` and a table `[modules]` of MODULE = \"VERSION\".").into()
    })
}

fn parse(text: &str) -> Result<GroupFile, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_a_group_and_the_versions_of_its_modules_and_nothing_else() {
        let file = parse("group = \"shop\"\n[modules]\nflow = \"2.0.0\"\ncoupons = \"1.4.0\"\n").unwrap();
        assert_eq!(file.group.as_str(), "shop");
        assert_eq!(file.modules[&ModuleName::new("flow").unwrap()], Version::new(2, 0, 0));
        for (bad, named) in [
            ("group = \"shop\"", "modules"),
            ("group = \"Shop\"\n[modules]", "Shop"),
            ("group = \"shop\"\n[modules]\nflow = \"2\"", "flow"),
            ("group = \"shop\"\nkeep = 1\n[modules]", "keep"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
