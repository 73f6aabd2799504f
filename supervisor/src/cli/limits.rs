//! `mortise limits`: what each worker of a module may use, looked at and changed while it works.

use std::collections::BTreeSet;

use mortise_control::ModuleName;

use super::arguments::Limits;
use super::change::{Limit, LimitChange, Unit};
use super::fault::{Done, Fault};
use super::session::Session;
use super::{change, operations, units};
use crate::api::{ModuleLimit, ModuleLimits, ModuleStatus, Request};
use crate::manifest::show_bytes;

/// `LIMIT=VALUE` or `LIMIT=default`.
pub type ModuleChange = LimitChange<ModuleLimit>;

impl Limit for ModuleLimit {
    const NAMES: &'static [(&'static str, Self, Unit)] = &[
        ("memory", Self::Memory, Unit::Bytes),
        ("memory_high", Self::MemoryHigh, Unit::Bytes),
        ("swap", Self::Swap, Unit::Bytes),
        ("cpu", Self::Cpu, Unit::Cores),
        ("cpu_weight", Self::CpuWeight, Unit::Number),
        ("pids", Self::Pids, Unit::Number),
        ("io_weight", Self::IoWeight, Unit::Number),
    ];
    const NO_LIMIT: &'static str = "no limit that can be changed while a worker runs";
    const AMOUNT: &'static str = "an amount like 64M or 2G";
    const LIKE: &'static str = "memory=64M";
    const LIFTED: (&'static str, &'static str) = ("default", "is what module.toml says");
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

fn gathered(changes: &[ModuleChange]) -> Result<(ModuleLimits, BTreeSet<ModuleLimit>), Fault> {
    let mut limits = ModuleLimits::default();
    let lift = change::gather(changes, |limit, value| limits.set(limit, Some(value)))?;
    Ok((limits, lift))
}

/// What is said instead of module.toml: `memory=64M cpu=0.5`.
pub fn said(limits: &ModuleLimits) -> String {
    let ModuleLimits { memory_bytes, memory_high_bytes, swap_bytes, cpu_milli, cpu_weight, pids, io_weight } = *limits;
    let values = [
        (ModuleLimit::Memory, memory_bytes.map(show_bytes)),
        (ModuleLimit::MemoryHigh, memory_high_bytes.map(show_bytes)),
        (ModuleLimit::Swap, swap_bytes.map(show_bytes)),
        (ModuleLimit::Cpu, cpu_milli.map(|it| (f64::from(it) / 1_000.0).to_string())),
        (ModuleLimit::CpuWeight, cpu_weight.map(|it| it.to_string())),
        (ModuleLimit::Pids, pids.map(|it| it.to_string())),
        (ModuleLimit::IoWeight, io_weight.map(|it| it.to_string())),
    ];
    let words = values.into_iter().filter_map(|(limit, value)| Some(format!("{}={}", limit.name(), value?)));
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
        let read = |text: &str| text.parse::<ModuleChange>().map(|it| it.value);
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
        let read = |it: &[&str]| -> Vec<ModuleChange> { it.iter().map(|it| it.parse().unwrap()).collect() };
        assert!(gathered(&read(&["pids=4", "pids=default"])).is_err());
        let (limits, lift) = gathered(&read(&["cpu=0.5", "memory=64M", "swap=default"])).unwrap();
        assert_eq!((said(&limits).as_str(), lift), ("memory=64M cpu=0.5", BTreeSet::from([ModuleLimit::Swap])));
    }
}
