//! `mortise tenant`: who owns modules, and what each may have.

use std::collections::BTreeSet;

use super::arguments::Tenant;
use super::change::{Limit, LimitChange, Unit};
use super::fault::{Done, Fault};
use super::session::Session;
use super::{change, operations};
use crate::api::{Request, TenantLimit, TenantLimits, TenantStatus};
use crate::manifest::show_bytes;

/// `LIMIT=VALUE` or `LIMIT=none`.
pub type TenantChange = LimitChange<TenantLimit>;

impl Limit for TenantLimit {
    const NAMES: &'static [(&'static str, Self, Unit)] = &[
        ("memory", Self::Memory, Unit::Bytes),
        ("cpu", Self::Cpu, Unit::Cores),
        ("pids", Self::Pids, Unit::Number),
        ("modules", Self::Modules, Unit::Number),
        ("workers", Self::Workers, Unit::Number),
        ("channels", Self::Channels, Unit::Number),
        ("services", Self::Services, Unit::Number),
        ("log_bytes", Self::LogBytes, Unit::Bytes),
    ];
    const NO_LIMIT: &'static str = "no limit of a tenant";
    const AMOUNT: &'static str = "an amount like 512M or 2G";
    const LIKE: &'static str = "memory=2G";
    const LIFTED: (&'static str, &'static str) = ("none", "lifts the limit");
}

/// `mortise tenant …`.
pub async fn tenant(session: &Session, asked: Tenant) -> Done {
    let tenant = session.tenant.clone();
    match asked {
        Tenant::Add { name, limits } => {
            let (limits, _) = gathered(&limits)?;
            operations::change(session, Request::AddTenant { tenant: name, limits }).await
        }
        Tenant::Set { name, limits } => {
            let (limits, lift) = gathered(&limits)?;
            operations::change(session, Request::SetTenant { tenant: name, limits, lift }).await
        }
        Tenant::Rm { name } => operations::change(session, Request::RemoveTenant { tenant: name }).await,
        Tenant::Export { service, to } => operations::change(session, Request::Export { tenant, service, to }).await,
        Tenant::Unexport { service, to } => {
            operations::change(session, Request::Unexport { tenant, service, to }).await
        }
        Tenant::Import { service, from } => {
            operations::change(session, Request::Import { tenant, service, from }).await
        }
        Tenant::Unimport { service } => operations::change(session, Request::Unimport { tenant, service }).await,
        Tenant::Ls => list(session).await,
    }
}

fn gathered(changes: &[TenantChange]) -> Result<(TenantLimits, BTreeSet<TenantLimit>), Fault> {
    let mut limits = TenantLimits::default();
    let lift = change::gather(changes, |limit, value| limits.set(limit, Some(value)))?;
    Ok((limits, lift))
}

async fn list(session: &Session) -> Done {
    let tenants: Vec<TenantStatus> = session.client.get("/v1/tenants").await?;
    if session.screen.json {
        return session.screen.json(&tenants);
    }
    let of = |used: u64, most: Option<u32>| most.map_or_else(|| used.to_string(), |most| format!("{used}/{most}"));
    let mut table =
        session.screen.table(&["TENANT", "MODULES", "WORKERS", "MEMORY", "CHANNELS", "SERVICES", "CPU", "PIDS", "LOG"]);
    for it in &tenants {
        let (limits, used) = (&it.limits, &it.used);
        let memory = show_bytes(used.memory_bytes);
        table.add_row([
            it.tenant.to_string(),
            of(used.modules, limits.modules),
            of(used.workers, limits.workers),
            limits.memory_bytes.map_or_else(|| memory.clone(), |most| format!("{memory}/{}", show_bytes(most))),
            of(used.channels, limits.channels),
            of(used.services, limits.services),
            limits.cpu_milli.map_or_else(|| "-".to_owned(), |it| format!("{}", f64::from(it) / 1_000.0)),
            limits.pids.map_or_else(|| "-".to_owned(), |it| it.to_string()),
            limits.log_bytes.map_or_else(|| "-".to_owned(), |it| format!("{}/s", show_bytes(it.into()))),
        ]);
    }
    session.screen.show(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_name_and_a_value_of_its_kind() {
        let read = |text: &str| text.parse::<TenantChange>().map(|it| it.value);
        assert_eq!(read("memory=2G"), Ok(Some(2 << 30)));
        assert_eq!(read("cpu=1.5"), Ok(Some(1_500)));
        assert_eq!(read("workers=4"), Ok(Some(4)));
        assert_eq!(read("workers=none"), Ok(None));
        for bad in [
            "workers",
            "workers=",
            "workers=-1",
            "workers=1.5",
            "memory=2X",
            "cpu=0.0001",
            "cpu=nan",
            "cpu=-1",
            "gpu=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_said_once() {
        let changes: Vec<TenantChange> = ["pids=1", "pids=none"].iter().map(|it| it.parse().unwrap()).collect();
        assert!(gathered(&changes).is_err());
        let (limits, lift) = gathered(&changes[1..]).unwrap();
        assert_eq!((limits, lift), (TenantLimits::default(), BTreeSet::from([TenantLimit::Pids])));
    }
}
