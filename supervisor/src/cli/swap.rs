//! `mortise swap`: begun, by steps or all at once; paused, resumed, aborted.

use mortise_control::ModuleName;

use super::arguments::{Steer, Swap};
use super::fault::{Done, Fault};
use super::operations;
use super::session::Session;
use crate::api::{Request, Rollout, Steering};

/// Begins or steers a swap.
pub async fn swap(session: &Session, asked: Swap) -> Done {
    let tenant = session.tenant.clone();
    if let Some(steer) = asked.steering {
        let (module, to) = match steer {
            Steer::Pause { module } => (module, Steering::Pause),
            Steer::Resume { module } => (module, Steering::Resume),
            Steer::Abort { module } => (module, Steering::Abort),
        };
        return operations::change(session, Request::SteerSwap { tenant, module, to }).await;
    }
    let Some(target) = asked.module else {
        return Err(Fault::command_line("which module? Write MODULE@VERSION").into());
    };
    let steps = if asked.blue_green { vec![100] } else { asked.canary };
    if steps.is_empty() && !asked.gates.is_empty() {
        return Err(Fault::command_line("--gate judges a step: add --canary or --blue-green").into());
    }
    // Steps are waited for beside what an operation may take.
    let paused = asked.pause.saturating_mul(u32::try_from(steps.len()).unwrap_or(u32::MAX));
    let session = Session { timeout: session.timeout.saturating_add(paused), ..session.clone() };
    let rollout = (!steps.is_empty()).then(|| Rollout {
        steps,
        pause_ms: super::milliseconds(asked.pause),
        gates: asked.gates,
        min_calls: asked.min_calls,
    });
    let keep_ms = asked.keep.map(super::milliseconds);
    let without_state = asked.without_state;
    let (module, version) = (target.module, target.version);
    operations::change(&session, Request::Swap { tenant, module, version, keep_ms, rollout, without_state }).await
}

/// Whose swap it is.
pub fn module(asked: &Swap) -> Option<&ModuleName> {
    match &asked.steering {
        Some(Steer::Pause { module } | Steer::Resume { module } | Steer::Abort { module }) => Some(module),
        None => asked.module.as_ref().map(|it| &it.module),
    }
}
