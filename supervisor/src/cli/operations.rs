//! Changes: ask, wait, say how it went.

use std::time::Duration;

use tokio::time::Instant;

use super::fault::{Done, Fault};
use super::progress;
use super::session::{Session, Wait};
use super::units;
use crate::admin::Submit;
use crate::api::{ApiError, Blame, ErrorCode, Operation, OperationId, OperationState, Receipt, Request, Steering};

/// How long one request waits for an operation; also how old the step is that is shown.
const ROUND: Duration = Duration::from_secs(1);

/// From one try to reach a supervisor that restarts to the next.
const RETRY: Duration = Duration::from_millis(200);

/// Asks for `request` and says how it went.
pub async fn change(session: &Session, request: Request) -> Done {
    let operation = submit(session, request).await?;
    finish(session, operation).await
}

/// Waits for an accepted operation unless told otherwise, and says how it went.
pub async fn finish(session: &Session, operation: Operation) -> Done {
    let operation = match session.wait {
        Wait::Accepted => operation,
        Wait::Ended => ended(session, operation).await?,
    };
    report(session, &operation)
}

/// A name for an operation that nobody else gives: with it the request can be repeated.
pub fn fresh_id() -> Result<OperationId, Fault> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| {
        Fault::from(ApiError::new(ErrorCode::Unavailable, Blame::Host, format!("no random numbers: {error}")))
    })?;
    Ok(OperationId(format!("op-{:016x}", u64::from_ne_bytes(random))))
}

async fn submit(session: &Session, request: Request) -> Result<Operation, Fault> {
    let submit = Submit { id: Some(fresh_id()?), request };
    let asked = async || session.client.post::<Operation>("/v1/operations", &submit).await;
    match asked().await {
        // The supervisor may have ended after it had accepted: the same id gives the same operation.
        Err(fault) if fault.is_torn() => asked().await,
        answered => answered,
    }
}

/// The operation when it has ended. A supervisor that restarts meanwhile is waited for: operations outlive it.
pub async fn ended(session: &Session, mut operation: Operation) -> Result<Operation, Fault> {
    let deadline = Instant::now() + session.timeout;
    let spinner = progress::spinner(describe(&operation));
    while operation.state == OperationState::Running {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(session, &operation));
        }
        let round = ROUND.min(left);
        let path = format!("/v1/operations/{}?wait={}", operation.id, round.as_secs_f64());
        match session.client.get(&path).await {
            Ok(now) => {
                operation = now;
                spinner.set_message(describe(&operation));
            }
            Err(fault) if fault.is_unreachable() => {
                spinner.set_message("waiting for the supervisor to come back");
                tokio::time::sleep(RETRY.min(left)).await;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(operation)
}

fn late(session: &Session, operation: &Operation) -> Fault {
    let waited = units::age(session.timeout);
    let step = operation.steps.last().map_or("accepted", |it| it.step.as_str());
    let message = format!("the operation {} is not done after {waited}; it is at the step {step}", operation.id);
    ApiError::new(ErrorCode::Deadline, Blame::Host, message)
        .remedy(format!("It goes on: `mortise operation {}` waits for it, --timeout sets how long.", operation.id))
        .into()
}

/// What is being done, and the step it is at.
fn describe(operation: &Operation) -> String {
    match operation.steps.last() {
        Some(step) => {
            let said = step.said.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
            format!("{}: {}{said}", doing(&operation.request), step.step)
        }
        None => doing(&operation.request),
    }
}

fn doing(request: &Request) -> String {
    match request {
        Request::Install { .. } => "installing".to_owned(),
        Request::Uninstall { module, .. } => format!("uninstalling {module}"),
        Request::Start { module, .. } => format!("starting {module}"),
        Request::Stop { module, .. } => format!("stopping {module}"),
        Request::Restart { module, .. } => format!("restarting {module}"),
        Request::Swap { module, version, .. } => format!("swapping {module} to {version}"),
        Request::SteerSwap { module, .. } => format!("steering the swap of {module}"),
        Request::StartBeside { module, version, .. } => format!("starting {module}@{version} beside"),
        Request::Share { module, .. } => format!("sharing the calls of {module}"),
        Request::Shadow { module, .. } => format!("shadowing the calls of {module}"),
        Request::Rollback { module, .. } => format!("rolling {module} back"),
        Request::Discard { module, .. } => format!("ending what is kept or runs beside of {module}"),
        Request::Scale { module, .. } => format!("scaling {module}"),
        Request::SetLimits { module, .. } => format!("changing the limits of {module}"),
        Request::Publish { module, .. } => format!("publishing {module}"),
        Request::Unpublish { module, .. } => format!("withdrawing {module}"),
        Request::ApplyRoutes { tenant, .. } => format!("applying routes of {tenant}"),
        Request::RollbackRoutes { tenant } => format!("rolling routes of {tenant} back"),
        Request::ApplyGroup { group, .. } => format!("applying the group {group}"),
        Request::RollbackGroup { group, .. } => format!("rolling the group {group} back"),
        Request::RemoveGroup { group, .. } => format!("forgetting the group {group}"),
        Request::AddTenant { tenant, .. } => format!("adding the tenant {tenant}"),
        Request::SetTenant { tenant, .. } => format!("changing the limits of the tenant {tenant}"),
        Request::RemoveTenant { tenant } => format!("removing the tenant {tenant}"),
        Request::Export { service, to, .. } => format!("exporting {service} to {to}"),
        Request::Unexport { service, to, .. } => format!("taking {service} back from {to}"),
        Request::Import { service, from, .. } => format!("importing {service} from {from}"),
        Request::Unimport { service, .. } => format!("taking back the import of {service}"),
    }
}

fn done(request: &Request) -> String {
    let at = |version: &Option<semver::Version>| version.as_ref().map(|it| format!("@{it}")).unwrap_or_default();
    let of = |service: &Option<mortise_control::ServiceName>| {
        service.as_ref().map_or("all its services".to_owned(), |it| format!("the service {it}"))
    };
    match request {
        Request::Install { digest, .. } => format!("installed {digest}"),
        Request::Uninstall { module, version, .. } => format!("uninstalled {module}{}", at(version)),
        Request::Start { module, version, .. } => format!("started {module}{}", at(version)),
        Request::Stop { module, .. } => format!("stopped {module}"),
        Request::Restart { module, .. } => format!("restarted {module}"),
        Request::Swap { module, version, .. } => format!("swapped {module} to {version}"),
        Request::SteerSwap { module, to, .. } => match to {
            Steering::Pause => format!("paused the swap of {module}; it stays at its share"),
            Steering::Resume => format!("resumed the swap of {module}"),
            Steering::Abort => format!("aborted the swap of {module}; what it has started ends"),
        },
        Request::StartBeside { module, version, .. } => {
            format!("{module}@{version} runs beside; it gets what routes and `mortise share` send it")
        }
        Request::Share { module, percent, .. } => {
            format!("the version beside gets {percent} % of what no route decides for {module}")
        }
        Request::Shadow { module, percent: 0, .. } => {
            format!("no calls of {module} go to the version beside as well; its report stays until that version goes")
        }
        Request::Shadow { module, percent, .. } => format!(
            "the version beside gets {percent} % of the calls of idempotent methods of {module} as well; `mortise shadow report {module}` \
             shows how its answers differ"
        ),
        Request::Rollback { module, .. } => format!("rolled {module} back"),
        Request::Discard { module, .. } => format!("ended what was kept or ran beside of {module}"),
        Request::Scale { module, instances, .. } => match instances {
            Some(1) => format!("scaled {module} to 1 worker"),
            Some(many) => format!("scaled {module} to {many} workers"),
            None => format!("scaled {module} to what its module.toml says"),
        },
        Request::SetLimits { module, .. } => format!("changed the limits of {module}"),
        Request::Publish { module, service, .. } => format!("published {} of {module}", of(service)),
        Request::Unpublish { module, service, .. } => format!("withdrew {} of {module}", of(service)),
        Request::ApplyRoutes { tenant, .. } => format!("applied the routes of {tenant}"),
        Request::RollbackRoutes { tenant } => format!("rolled the routes of {tenant} back"),
        Request::ApplyGroup { group, modules, .. } => {
            let modules: Vec<String> = modules.iter().map(|(module, version)| format!("{module} {version}")).collect();
            format!("the group {group} runs {}", modules.join(", "))
        }
        Request::RollbackGroup { group, .. } => format!("rolled the group {group} back"),
        Request::RemoveGroup { group, .. } => format!("forgot the group {group}; its modules go on"),
        Request::AddTenant { tenant, .. } => {
            format!("added the tenant {tenant}; `mortise --tenant {tenant} install PACKAGE` brings in its first module")
        }
        Request::SetTenant { tenant, .. } => format!("changed the limits of the tenant {tenant}"),
        Request::RemoveTenant { tenant } => format!("removed the tenant {tenant}"),
        Request::Export { service, to, .. } => {
            format!("modules of {to} may call {service}, if module.toml exports it and {to} imports it")
        }
        Request::Unexport { service, to, .. } => format!("no module of {to} can call {service}"),
        Request::Import { service, from, .. } => {
            format!("{service} is that of {from}; calls are denied unless {from} exports it")
        }
        Request::Unimport { service, .. } => format!("{service} is a name of the tenant's own again"),
    }
}

/// Says how an operation went, or how far it is.
pub fn report(session: &Session, operation: &Operation) -> Done {
    let screen = session.screen;
    if screen.json {
        screen.json(operation)?;
    }
    match operation.state {
        OperationState::Failed => {
            let error = operation.error.clone().unwrap_or_else(|| {
                ApiError::new(ErrorCode::Failed, Blame::Mortise, format!("the operation {} failed", operation.id))
            });
            Err(Fault::of_operation(error).into())
        }
        _ if screen.json => Ok(()),
        OperationState::Running => screen.line(&format!(
            "{}: accepted; `mortise operation {}` tells how it went",
            doing(&operation.request),
            operation.id
        )),
        OperationState::Done => {
            screen.line(&done(&operation.request))?;
            for (step, said) in operation.steps.iter().filter_map(|it| Some((&it.step, it.said.as_ref()?))) {
                screen.line(&format!("  {step:<20} {}", super::screen::visible(said)))?;
            }
            // What gave nothing back, such as a swap to the version that runs, has nothing to say about it.
            let receipt = operation.receipt.as_ref().filter(|it| **it != Receipt::default());
            receipt.map_or(Ok(()), |it| screen.print(&given_back(it)))
        }
    }
}

fn given_back(receipt: &Receipt) -> String {
    let Receipt {
        workers,
        processes_left,
        cgroups_removed,
        channels_closed,
        descriptors_closed,
        memory_bytes,
        disk_bytes,
        still_held,
        frozen,
        frozen_bytes,
        frozen_until,
    } = receipt;
    let mut text = format!(
        "  workers ended        {workers}\n  processes left       {processes_left}\n  cgroups removed      {cgroups_removed}\n  \
         channels closed      {channels_closed}\n  descriptors closed   {descriptors_closed}\n  memory given back    {}\n",
        units::bytes(*memory_bytes)
    );
    if *disk_bytes > 0 {
        text += &format!("  disk given back      {}\n", units::bytes(*disk_bytes));
    }
    if *frozen > 0 {
        let left = frozen_until.map_or_else(|| "-".to_owned(), |it| units::since(jiff::Timestamp::now(), it));
        text += &format!("  workers frozen       {frozen}, holding {}, for {left}\n", units::bytes(*frozen_bytes));
    }
    for held in still_held {
        text += &format!("  still held           {}\n", super::screen::visible(held));
    }
    text
}

/// `mortise operation`.
pub async fn ask(session: &Session, id: Option<&str>) -> Done {
    match id {
        Some(id) => {
            let operation: Operation = session.client.get(&format!("/v1/operations/{}", path_segment(id)?)).await?;
            finish(session, operation).await
        }
        None => list(session).await,
    }
}

/// An id as it is in a path. The API gives no others.
fn path_segment(id: &str) -> Result<&str, Fault> {
    let sound = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    if !id.is_empty() && id.bytes().all(sound) {
        return Ok(id);
    }
    Err(Fault::command_line(format!("{id:?} cannot be the id of an operation: letters, digits, '-', '_' and '.'")))
}

async fn list(session: &Session) -> Done {
    let operations: Vec<Operation> = session.client.get(&session.of_tenant("/v1/operations")).await?;
    if session.screen.json {
        return session.screen.json(&operations);
    }
    let now = jiff::Timestamp::now();
    let mut table = session.screen.table(&["OPERATION", "STATE", "STARTED", "TOOK", "WHAT", "WHY"]);
    for it in &operations {
        let (state, what) = match it.state {
            OperationState::Running => ("running", doing(&it.request)),
            OperationState::Done => ("done", done(&it.request)),
            OperationState::Failed => ("failed", doing(&it.request)),
        };
        let why = it.error.as_ref().map(|it| super::screen::visible(&it.message)).unwrap_or_default();
        let took = it.ended.map_or_else(|| "-".to_owned(), |end| units::took(it.started, end));
        table.add_row([it.id.0.clone(), state.to_owned(), units::since(it.started, now) + " ago", took, what, why]);
    }
    session.screen.show(&table)
}
