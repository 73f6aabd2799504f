//! Modules, as they are.

use axum::Json;
use axum::extract::State;
use mortise_control::{ModuleName, TenantName};
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::not_found;
use super::extract::{InPath, InQuery};
use super::{Access, Caller, Shared};
use crate::api::{ApiError, ModuleStatus, ShadowReport, Snapshot};

/// Whose.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfTenant {
    /// Only what belongs to this tenant; all tenants without it.
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantName>,
}

impl OfTenant {
    /// What reading that takes.
    pub fn access(&self) -> Access<'_> {
        self.tenant.as_ref().map_or(Access::ReadAll, Access::Read)
    }

    pub fn has(&self, tenant: &TenantName) -> bool {
        self.tenant.as_ref().is_none_or(|it| it == tenant)
    }
}

/// Which module.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OneModule {
    /// Whose.
    #[param(value_type = String)]
    pub tenant: TenantName,
    /// Its name.
    #[param(value_type = String)]
    pub module: ModuleName,
}

/// Installed modules with their services and workers.
#[utoipa::path(get, path = "/v1/modules", tag = "modules", params(OfTenant), responses((status = 200, body = [ModuleStatus])))]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(of): InQuery<OfTenant>,
) -> Result<Json<Vec<ModuleStatus>>, ApiError> {
    caller.may(of.access())?;
    let snapshot = shared.api.handle.snapshot().await;
    Ok(Json(snapshot.modules.iter().filter(|it| of.has(&it.tenant)).map(|it| ModuleStatus::clone(it)).collect()))
}

/// One module with its services and workers.
#[utoipa::path(get, path = "/v1/modules/{tenant}/{module}", tag = "modules", params(OneModule), responses((status = 200, body = ModuleStatus)))]
pub(super) async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    InPath(of): InPath<OneModule>,
) -> Result<Json<ModuleStatus>, ApiError> {
    caller.may(Access::Read(&of.tenant))?;
    let snapshot = shared.api.handle.snapshot().await;
    Ok(Json(ModuleStatus::clone(found(&snapshot, &of)?)))
}

/// What came of sending calls to the version beside as well, as the callers tell it.
#[utoipa::path(get, path = "/v1/modules/{tenant}/{module}/shadow", tag = "modules", params(OneModule), responses((status = 200, body = ShadowReport)))]
pub(super) async fn shadow(
    State(shared): State<Shared>,
    caller: Caller,
    InPath(of): InPath<OneModule>,
) -> Result<Json<ShadowReport>, ApiError> {
    caller.may(Access::Read(&of.tenant))?;
    let state = shared.api.handle.state();
    let report = found(&state, &of)?.shadow.as_ref().ok_or_else(|| {
        not_found(format!("no calls of {}/{} are or were sent to a version beside as well", of.tenant, of.module))
            .remedy("`mortise shadow start MODULE PERCENT` begins with it, where a version runs beside.")
    })?;
    Ok(Json(ShadowReport::clone(report)))
}

fn found<'a>(snapshot: &'a Snapshot, of: &OneModule) -> Result<&'a ModuleStatus, ApiError> {
    let found = snapshot.modules.iter().find(|it| it.tenant == of.tenant && it.module == of.module);
    found.map(|it| &**it).ok_or_else(|| no_module(of))
}

/// There is no such module.
pub(super) fn no_module(of: &OneModule) -> ApiError {
    not_found(format!("the tenant {} has no module {}", of.tenant, of.module))
        .remedy("GET /v1/modules lists those that are installed.")
}
