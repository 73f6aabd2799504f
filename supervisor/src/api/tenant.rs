//! Tenants: what each may have, and what it has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mortise_control::{ServiceName, TenantName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a tenant may have. None: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Bytes: what its workers' own limits may come to, and what all of them may use together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core that its workers may use together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Processes and threads of its workers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Modules installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<u32>,
    /// Workers, also those that a swap runs beside the ones that it replaces, and those that are kept frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Channels of its workers as callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Services published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<u32>,
    /// Bytes a second that its workers may have in the log together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u32>,
}

/// The name of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TenantLimit {
    /// `memory_bytes`.
    Memory,
    /// `cpu_milli`.
    Cpu,
    /// `pids`.
    Pids,
    /// `modules`.
    Modules,
    /// `workers`.
    Workers,
    /// `channels`.
    Channels,
    /// `services`.
    Services,
    /// `log_bytes`.
    LogBytes,
}

impl TenantLimits {
    /// These, with what `over` says instead, and without those of `lifted`.
    #[must_use]
    pub fn changed(self, over: &Self, lifted: impl IntoIterator<Item = TenantLimit>) -> Self {
        let mut limits = Self {
            memory_bytes: over.memory_bytes.or(self.memory_bytes),
            cpu_milli: over.cpu_milli.or(self.cpu_milli),
            pids: over.pids.or(self.pids),
            modules: over.modules.or(self.modules),
            workers: over.workers.or(self.workers),
            channels: over.channels.or(self.channels),
            services: over.services.or(self.services),
            log_bytes: over.log_bytes.or(self.log_bytes),
        };
        for limit in lifted {
            limits.set(limit, None);
        }
        limits
    }

    /// Says another value of one limit, in its unit; at most the largest number that it can be.
    pub fn set(&mut self, limit: TenantLimit, value: Option<u64>) {
        let number = value.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        match limit {
            TenantLimit::Memory => self.memory_bytes = value,
            TenantLimit::Cpu => self.cpu_milli = number,
            TenantLimit::Pids => self.pids = number,
            TenantLimit::Modules => self.modules = number,
            TenantLimit::Workers => self.workers = number,
            TenantLimit::Channels => self.channels = number,
            TenantLimit::Services => self.services = number,
            TenantLimit::LogBytes => self.log_bytes = number,
        }
    }
}

/// A tenant: declared, or there because it has modules. `default` is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantStatus {
    /// Its name.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Since when it is declared; none: nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// What it may have.
    pub limits: TenantLimits,
    /// Services of its own that modules of other tenants may call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub exports: BTreeMap<ServiceName, BTreeSet<TenantName>>,
    /// Services that its modules call of other tenants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub imports: BTreeMap<ServiceName, TenantName>,
    /// What of that it has.
    pub used: TenantUse,
}

/// What a tenant has, or is about to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantUse {
    /// Modules installed.
    pub modules: u64,
    /// Workers wanted or there, without a base.
    pub workers: u64,
    /// What their memory limits come to.
    pub memory_bytes: u64,
    /// Channels of its workers as callers.
    pub channels: u64,
    /// Services published.
    pub services: u64,
}
