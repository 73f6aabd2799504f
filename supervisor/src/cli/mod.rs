//! The command `mortise`: the admin API for people and scripts.
//!
//! ```text
//! arguments ──▶ command (one file each) ──client──▶ admin API        pack, check, schema, new: local work
//!                   │                                                 doctor: local when no supervisor answers
//!                   ▼
//!               screen (tables, colour, progress; only on a terminal) or JSON
//! ```
//!
//! Exit codes: 0 done; 1 the operation failed; 2 the command line is wrong; 3 no supervisor answers; the others are those of
//! [`ErrorCode::exit_code`](crate::api::ErrorCode::exit_code).

mod arguments;
mod call;
mod change;
mod client;
mod doctor;
mod fault;
mod file;
mod groups;
mod limits;
mod man;
mod operations;
mod packages;
mod progress;
mod ps;
mod routes;
mod screen;
mod session;
mod shadow;
mod shutdown;
mod status;
mod streams;
mod suggest;
mod swap;
mod target;
mod tenants;
mod top;
mod units;
mod upgrade;

pub use arguments::Arguments;
pub use ps::{Row as PsRow, WorkerRow as PsWorkerRow};
pub use top::{Frame as TopFrame, Usage as TopUsage};

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::api::{ApiError, Blame, ErrorCode, ModuleStatus, Request};
use crate::manifest;
use arguments::Command;
use fault::{Done, End, Fault};
use screen::Paint;
use session::Session;
use target::ModuleTarget;

/// Runs `mortise` with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (color, json) = (arguments.global.color, arguments.global.json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = ApiError::new(ErrorCode::Unavailable, Blame::Host, format!("no runtime: {error}"));
            return say(&error.into(), color, json);
        }
    };
    let ended = runtime.block_on(run(arguments));
    // A look for a key may still block in a thread.
    runtime.shutdown_background();
    match ended {
        Ok(()) | Err(End::NobodyReads) => ExitCode::SUCCESS,
        Err(End::Fault(fault)) => say(&fault, color, json),
    }
}

fn say(fault: &Fault, color: arguments::When, json: bool) -> ExitCode {
    let text = match serde_json::to_string(&fault.error) {
        Ok(text) if json => text + "\n",
        Ok(_) | Err(_) => fault.show(Paint::for_stderr(color)),
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
    fault.exit_code()
}

async fn run(arguments: Arguments) -> Done {
    let Arguments { global, command } = arguments;
    let session = Session::new(&global);
    let meant = names(&command);
    match dispatch(&session, &global, command).await {
        Err(End::Fault(fault)) if fault.error.code == ErrorCode::NotFound => {
            Err(with_guess(&session, fault, meant).await.into())
        }
        ended => ended,
    }
}

async fn dispatch(session: &Session, global: &arguments::Global, command: Command) -> Done {
    let tenant = session.tenant.clone();
    match command {
        Command::New(new) => packages::new(session, &new),
        Command::Check { path } => packages::check(session, &path, Paint::for_stderr(global.color)),
        Command::Schema => session.screen.json(&manifest::json_schema()),
        Command::Pack { dir, output } => packages::pack(session, &dir, output.as_deref()).await,
        Command::Install { path } => packages::install(session, &path).await,
        Command::Uninstall { module } => {
            let request = Request::Uninstall { tenant, module: module.module, version: module.version };
            operations::change(session, request).await
        }
        Command::Start { module: ModuleTarget { module, version }, beside } => {
            let request = match (beside, version) {
                (true, Some(version)) => Request::StartBeside { tenant, module, version },
                (true, None) => return Err(which_beside(&module).into()),
                (false, version) => Request::Start { tenant, module, version },
            };
            operations::change(session, request).await
        }
        Command::Stop { module } => operations::change(session, Request::Stop { tenant, module }).await,
        Command::Restart { module } => operations::change(session, Request::Restart { tenant, module }).await,
        Command::Swap(asked) => swap::swap(session, asked).await,
        Command::Rollback { module, keep } => {
            let request = Request::Rollback { tenant, module, keep_ms: keep.map(milliseconds) };
            operations::change(session, request).await
        }
        Command::Share { module, percent } => {
            operations::change(session, Request::Share { tenant, module, percent }).await
        }
        Command::Shadow(asked) => shadow::shadow(session, asked).await,
        Command::Discard { module } => operations::change(session, Request::Discard { tenant, module }).await,
        Command::Scale { module, instances } => {
            operations::change(session, Request::Scale { tenant, module, instances: instances.0 }).await
        }
        Command::Limits(asked) => limits::limits(session, asked).await,
        Command::Publish(it) => {
            let request = Request::Publish { tenant, module: it.module, service: it.service };
            operations::change(session, request).await
        }
        Command::Unpublish(it) => {
            let request = Request::Unpublish { tenant, module: it.module, service: it.service };
            operations::change(session, request).await
        }
        Command::Route(asked) => routes::route(session, asked).await,
        Command::Group(asked) => groups::group(session, asked).await,
        Command::Tenant(asked) => tenants::tenant(session, asked).await,
        Command::Ps => ps::ps(session).await,
        Command::Status { module } => status::status(session, module.as_ref()).await,
        Command::Top { interval, once } => top::top(session, interval, once).await,
        Command::Logs { module, follow, tail } => streams::logs(session, &module, follow, tail).await,
        Command::Events { follow, since } => streams::events(session, follow, since).await,
        Command::Call { target, arguments, tags } => call::call(session, &target, &arguments, &tags).await,
        Command::Operation { id } => operations::ask(session, id.as_deref()).await,
        Command::Shutdown => shutdown::shut_down(session).await,
        Command::Upgrade { binary } => upgrade::upgrade(session, &binary).await,
        Command::Doctor(asked) => doctor::doctor(session, global, asked).await,
        Command::Man { folder } => man::write(&folder),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "mortise", &mut script);
            session.screen.print(&String::from_utf8_lossy(&script))
        }
    }
}

fn which_beside(module: &mortise_control::ModuleName) -> Fault {
    Fault::command_line(format!("--beside needs a version: write `mortise start {module}@VERSION --beside`"))
}

fn milliseconds(it: std::time::Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}

/// A name on the command line that may be a typo.
enum Name {
    Module(String),
    Service(String),
}

fn names(command: &Command) -> Vec<Name> {
    let module = |it: &mortise_control::ModuleName| Name::Module(it.to_string());
    match command {
        Command::Uninstall { module: it } | Command::Start { module: it, .. } => vec![module(&it.module)],
        Command::Swap(it) => swap::module(it).into_iter().map(module).collect(),
        Command::Stop { module: it }
        | Command::Restart { module: it }
        | Command::Rollback { module: it, .. }
        | Command::Discard { module: it }
        | Command::Share { module: it, .. }
        | Command::Scale { module: it, .. }
        | Command::Logs { module: it, .. } => vec![module(it)],
        Command::Limits(it) => vec![module(&it.module)],
        Command::Shadow(it) => vec![module(shadow::module(it))],
        Command::Status { module: it } => it.iter().map(module).collect(),
        Command::Publish(it) | Command::Unpublish(it) => {
            let service = it.service.iter().map(|it| Name::Service(it.to_string()));
            std::iter::once(module(&it.module)).chain(service).collect()
        }
        Command::Call { target, .. } => vec![Name::Service(target.service.to_string())],
        Command::Route(arguments::Route::Show { service: Some(service) }) => vec![Name::Service(service.to_string())],
        Command::New(_)
        | Command::Route(_)
        | Command::Check { .. }
        | Command::Schema
        | Command::Pack { .. }
        | Command::Install { .. }
        | Command::Group(_)
        | Command::Tenant(_)
        | Command::Ps
        | Command::Top { .. }
        | Command::Events { .. }
        | Command::Operation { .. }
        | Command::Shutdown
        | Command::Upgrade { .. }
        | Command::Man { .. }
        | Command::Doctor(_)
        | Command::Completions { .. } => vec![],
    }
}

/// The same fault, with what was probably meant.
async fn with_guess(session: &Session, mut fault: Fault, meant: Vec<Name>) -> Fault {
    if meant.is_empty() {
        return fault;
    }
    let Ok(modules) = session.client.get::<Vec<ModuleStatus>>(&session.of_tenant("/v1/modules")).await else {
        return fault;
    };
    let guess = meant.iter().find_map(|it| match it {
        Name::Module(typed) => unknown(typed, modules.iter().map(|it| it.module.as_str())),
        Name::Service(typed) => {
            unknown(typed, modules.iter().flat_map(|it| it.services.iter()).map(|it| it.service.as_str()))
        }
    });
    if let Some(guess) = guess {
        let remedy = fault.error.remedy.take().map(|it| format!(" {it}")).unwrap_or_default();
        fault.error.remedy = Some(format!("Did you mean `{guess}`?{remedy}"));
    }
    fault
}

/// What `typed` was meant to be, if it is none of `known`.
fn unknown<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if known.clone().any(|it| it == typed) { None } else { suggest::closest(typed, known) }
}
