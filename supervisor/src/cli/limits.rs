//! `mortise limits`: what each worker of a module may use, looked at and changed while it works.

use std::collections::BTreeSet;
use std::str::FromStr;

use mortise_control::ModuleName;

use super::arguments::Limits;
use super::fault::{Done, Fault};
use super::session::Session;
use super::{operations, units};
use crate::api::{ModuleLimit, ModuleLimits, ModuleStatus, Request};
use crate::manifest::{read_bytes, show_bytes};

/// `LIMIT=VALUE` or `LIMIT=default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChange {
    limit: ModuleLimit,
    /// None: as module.toml says.
    value: Option<u64>,
}

const LIMITS: [(&str, ModuleLimit); 5] = [
    ("memory", ModuleLimit::Memory),
    ("swap", ModuleLimit::Swap),
    ("cpu", ModuleLimit::Cpu),
    ("pids", ModuleLimit::Pids),
    ("io_weight", ModuleLimit::IoWeight),
];

impl FromStr for LimitChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write LIMIT=VALUE, like memory=64M")?;
        let limit = LIMITS.iter().find(|(it, _)| *it == name).map(|(_, it)| *it).ok_or_else(|| {
            let names: Vec<_> = LIMITS.iter().map(|(it, _)| *it).collect();
            format!("{name:?} is no limit that can be changed while a worker runs; there are {}", names.join(", "))
        })?;
        if value == "default" {
            return Ok(Self { limit, value: None });
        }
        let read = match limit {
            ModuleLimit::Memory | ModuleLimit::Swap => read_bytes(value).ok_or("an amount like 64M or 2G"),
            ModuleLimit::Cpu => units::milli(value).ok_or("a number of cores like 0.5 or 2, to a thousandth"),
            ModuleLimit::Pids | ModuleLimit::IoWeight => {
                value.parse::<u32>().map(u64::from).map_err(|_| "a whole number")
            }
        };
        match read {
            Ok(value) => Ok(Self { limit, value: Some(value) }),
            Err(allowed) => Err(format!("{name} = {value:?} is not {allowed}; `default` is what module.toml says")),
        }
    }
}

/// `mortise limits`.
pub async fn limits(session: &Session, asked: Limits) -> Done {
    let Limits { module, limits, force } = asked;
    if limits.is_empty() {
        return show(session, &module).await;
    }
    let (limits, lift) = gathered(&limits)?;
    let tenant = session.tenant.clone();
    operations::change(session, Request::SetLimits { tenant, module, limits, lift, force }).await
}

fn gathered(changes: &[LimitChange]) -> Result<(ModuleLimits, BTreeSet<ModuleLimit>), Fault> {
    let (mut limits, mut lift, mut named) = (ModuleLimits::default(), BTreeSet::new(), BTreeSet::new());
    for LimitChange { limit, value } in changes {
        if !named.insert(*limit) {
            return Err(Fault::command_line(format!("{} is said twice", name(*limit))));
        }
        match value {
            Some(value) => limits.set(*limit, Some(*value)),
            None => drop(lift.insert(*limit)),
        }
    }
    Ok((limits, lift))
}

fn name(limit: ModuleLimit) -> &'static str {
    LIMITS.iter().find(|(_, it)| *it == limit).map_or("", |(name, _)| *name)
}

/// What is said instead of module.toml: `memory=64M cpu=0.5`.
pub fn said(limits: &ModuleLimits) -> String {
    let ModuleLimits { memory_bytes, swap_bytes, cpu_milli, pids, io_weight } = *limits;
    let values = [
        (ModuleLimit::Memory, memory_bytes.map(show_bytes)),
        (ModuleLimit::Swap, swap_bytes.map(show_bytes)),
        (ModuleLimit::Cpu, cpu_milli.map(|it| (f64::from(it) / 1_000.0).to_string())),
        (ModuleLimit::Pids, pids.map(|it| it.to_string())),
        (ModuleLimit::IoWeight, io_weight.map(|it| it.to_string())),
    ];
    let words = values.into_iter().filter_map(|(limit, value)| Some(format!("{}={}", name(limit), value?)));
    words.collect::<Vec<_>>().join(" ")
}

async fn show(session: &Session, module: &ModuleName) -> Done {
    let screen = session.screen;
    let status: ModuleStatus = session.client.get(&format!("/v1/modules/{}/{module}", session.tenant)).await?;
    if screen.json {
        let workers = status.workers.iter().map(|it| {
            serde_json::json!({"worker": it.worker, "limits": it.limits, "memory_bytes": it.memory_bytes, "pids": it.pids})
        });
        return screen.json(&serde_json::json!({"said": status.limits, "workers": workers.collect::<Vec<_>>()}));
    }
    let mut table = screen.table(&["WORKER", "VERSION", "STATE", "MEMORY", "CPU", "PIDS"]);
    for it in &status.workers {
        let limits = &it.limits;
        table.add_row([
            it.worker.clone(),
            it.version.to_string(),
            screen.paint.state(it.state),
            units::of(units::bytes(it.memory_bytes), limits.memory_bytes.map(units::bytes)),
            limits.cpu.map_or_else(|| "-".to_owned(), |it| format!("{it} cores")),
            units::of(it.pids.to_string(), limits.pids.map(|it| it.to_string())),
        ]);
    }
    screen.show(&table)?;
    let text = match status.limits.is_empty() {
        true => "as module.toml says\n".to_owned(),
        false => format!("instead of module.toml: {}\n", said(&status.limits)),
    };
    screen.print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_name_and_a_value_of_its_kind() {
        let read = |text: &str| text.parse::<LimitChange>().map(|it| it.value);
        assert_eq!(read("memory=64M"), Ok(Some(64 << 20)));
        assert_eq!(read("swap=0"), Ok(Some(0)));
        assert_eq!(read("cpu=0.25"), Ok(Some(250)));
        assert_eq!(read("pids=20"), Ok(Some(20)));
        assert_eq!(read("io_weight=default"), Ok(None));
        for bad in ["memory", "memory=", "memory=-1", "memory=64X", "cpu=0.0001", "pids=1.5", "open_files=100"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_said_once_and_shown_as_it_is_written() {
        let read = |it: &[&str]| -> Vec<LimitChange> { it.iter().map(|it| it.parse().unwrap()).collect() };
        assert!(gathered(&read(&["pids=4", "pids=default"])).is_err());
        let (limits, lift) = gathered(&read(&["cpu=0.5", "memory=64M", "swap=default"])).unwrap();
        assert_eq!((said(&limits).as_str(), lift), ("memory=64M cpu=0.5", BTreeSet::from([ModuleLimit::Swap])));
    }
}
