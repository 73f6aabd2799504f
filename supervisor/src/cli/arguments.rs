//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use mortise_control::{GroupName, ModuleName, ServiceName, TenantName};

use crate::api::Gate;
use crate::lifecycle::DEFAULT_TENANT;

use super::limits::ModuleChange;
use super::target::{Instances, MethodTarget, ModuleTarget, VersionTarget};
use super::tenants::TenantChange;

/// Where the admin socket is if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/mortise/admin.sock";

const AFTER_HELP: &str = "\
Exit codes:
   0  done
   1  the operation was carried out and failed
   2  the command line is wrong
   3  no supervisor answers on the socket
   4  the request is wrong              8  the package is refused
   5  no such module, service, …        9  too large, or a quota is used up
   6  it collides with what is there   10  the host cannot do it now
   7  not permitted                    11  not done in time
  70  a defect of Mortise";

/// Run modules, let them call each other, replace them while they work.
#[derive(Clone, Debug, Parser)]
#[command(name = "mortise", version, after_help = AFTER_HELP, max_term_width = 100, propagate_version = true)]
pub struct Arguments {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// The supervisor's admin socket.
    #[arg(long, global = true, env = "MORTISE_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: PathBuf,
    /// Whose modules.
    #[arg(
        long,
        global = true,
        env = "MORTISE_TENANT",
        hide_env_values = true,
        default_value = DEFAULT_TENANT,
        value_name = "NAME"
    )]
    pub tenant: TenantName,
    /// Print JSON for programs; streams print one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to wait for what was asked, like 30s or 2m.
    #[arg(long, global = true, value_parser = humantime::parse_duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
    /// Return as soon as the operation is accepted; `mortise operation ID` asks how it went.
    #[arg(long, global = true)]
    pub no_wait: bool,
    /// Colours: only on a terminal, and not with NO_COLOR, unless this says otherwise.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a folder with a new module that builds and runs.
    New(New),
    /// Say everything that is wrong with a module.toml.
    Check {
        /// The module's folder, or a module.toml.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
        path: PathBuf,
    },
    /// Print the JSON Schema of module.toml, for editors.
    Schema,
    /// Make a module's folder into one package file; the same folder always gives the same file.
    Pack {
        /// The module's folder.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// Where to write the package; NAME-VERSION.mortise in this folder if not said.
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Give a package to the supervisor: verified, unpacked, registered; nothing runs yet.
    Install {
        /// A package file, or a module's folder, which is packed first.
        #[arg(value_hint = ValueHint::AnyPath)]
        path: PathBuf,
    },
    /// Remove a version of a module, or all of it, and print what was given back.
    Uninstall {
        /// MODULE or MODULE@VERSION.
        #[arg(value_name = "MODULE[@VERSION]")]
        module: ModuleTarget,
    },
    /// Run a module: done when its workers are ready.
    Start {
        /// MODULE (the newest version) or MODULE@VERSION.
        #[arg(value_name = "MODULE[@VERSION]")]
        module: ModuleTarget,
        /// Run MODULE@VERSION beside the version in charge. It gets what routes send it, and what `mortise share` gives
        /// it of the rest; `mortise swap` puts it in charge alone, `mortise discard` ends it.
        #[arg(long)]
        beside: bool,
    },
    /// Let a module finish what is in flight and end it: done when its workers are gone.
    Stop {
        /// Which module.
        module: ModuleName,
    },
    /// Replace a module's workers by new ones of the same version, new before old.
    Restart {
        /// Which module.
        module: ModuleName,
    },
    /// Replace a module's workers by ones of another version, new before old, without losing a request.
    Swap(Swap),
    /// Put the version that is kept frozen in charge again, in milliseconds; the one that was in charge is kept in its place.
    Rollback {
        /// Which module.
        module: ModuleName,
        /// Keep the version that goes for this long; 0s ends it. Default: what `swap.keep` of its module.toml says.
        #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
        keep: Option<Duration>,
    },
    /// Give the version that runs beside the one in charge its share of the calls and requests that no route decides.
    Share {
        /// Which module.
        module: ModuleName,
        /// How many percent, like 5 or 5%; 0 gives it none.
        #[arg(value_name = "PERCENT", value_parser = super::target::percent)]
        percent: u32,
    },
    /// Try the version that runs beside the one in charge on real calls: both answer them, and the answers are compared.
    #[command(subcommand)]
    Shadow(Shadow),
    /// End the version that is kept frozen, or that runs beside the one in charge, and print what was given back.
    Discard {
        /// Which module.
        module: ModuleName,
    },
    /// Run so many workers of a module, whichever version it is: up and down while it works.
    Scale {
        /// Which module.
        module: ModuleName,
        /// How many workers, or `default` for what module.toml says.
        #[arg(value_name = "N|default", value_parser = super::target::instances)]
        instances: Instances,
    },
    /// Show what each worker of a module may use, or change it while it works.
    Limits(Limits),
    /// Let a module's services be called.
    Publish(Services),
    /// Withdraw a module's services: done when no new call reaches them.
    Unpublish(Services),
    /// Say which versions of a module answer which calls and requests.
    #[command(subcommand)]
    Route(Route),
    /// Change the versions of several modules together: all of them or none.
    #[command(subcommand)]
    Group(Group),
    /// Declare tenants and say what each may have.
    #[command(subcommand)]
    Tenant(Tenant),
    /// List modules and their workers.
    Ps,
    /// Tell everything about a module, or the whole supervisor.
    Status {
        /// Which module; all in short without it.
        module: Option<ModuleName>,
    },
    /// Watch CPU, memory and calls per second of every module.
    Top {
        /// From one frame to the next.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "1s", value_name = "TIME")]
        interval: Duration,
        /// Print one frame and end.
        #[arg(long)]
        once: bool,
    },
    /// Print what a module's workers print.
    Logs {
        /// Which module.
        module: ModuleName,
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
        /// How many of the latest lines.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
        tail: usize,
    },
    /// Print what happens: every lifecycle step with its reason.
    Events {
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
        /// Only events with this number or a later one.
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
    },
    /// Call a method of a published service.
    Call {
        /// SERVICE.METHOD.
        #[arg(value_name = "SERVICE.METHOD")]
        target: MethodTarget,
        /// The arguments as a JSON object by name; `-` reads them from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// A tag of the call, and of all calls that are made for it, as routes look at them; several with several --tag.
        #[arg(long = "tag", value_name = "NAME=VALUE")]
        tags: Vec<String>,
    },
    /// Tell how far an operation is; waits for its end unless --no-wait.
    Operation {
        /// Its id; without it the latest operations are listed.
        id: Option<String>,
    },
    /// Stop every module in order, then the supervisor: done when nothing runs any more. The next one starts all of it again.
    Shutdown,
    /// Make the supervisor become another program of `mortised`, after that has checked itself. Workers, calls and requests go on.
    Upgrade {
        /// The program.
        binary: PathBuf,
    },
    /// Examine this host: what Mortise can keep here, what not, why, and what to do. Works without a supervisor.
    Doctor(Doctor),
    /// Write the manual pages of `mortise` and `mortised` into a folder.
    #[command(hide = true)]
    Man {
        /// Which folder; the pages go into man1 and man8 below it.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Print the completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// What to do with routes.
#[derive(Clone, Debug, Subcommand)]
pub enum Route {
    /// Put the routes of a file in force, instead of all those that were: done when every caller has them.
    Apply {
        /// A TOML file with `[[route]]` and `[[tag]]`; `-` is standard input.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print the routes in force, as TOML.
    Show {
        /// Only those of this service.
        service: Option<ServiceName>,
    },
    /// Print what `apply` would change.
    Diff {
        /// As in `apply`.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Take back what was applied last; the routes before it are in force again.
    Rollback,
}

/// What to do with a version beside before it answers anybody.
#[derive(Clone, Debug, Subcommand)]
pub enum Shadow {
    /// Send a share of the calls to the version beside as well. Only calls of methods that are idempotent; its answers are compared and
    /// dropped. Begins a new report, or changes the share of the one that is under way.
    Start {
        /// Which module.
        module: ModuleName,
        /// How many percent, like 5 or 5%; 1 to 100.
        #[arg(value_name = "PERCENT", value_parser = super::target::percent_of_some)]
        percent: std::num::NonZeroU32,
    },
    /// Send it nothing more. The report stays until the version beside goes.
    Stop {
        /// Which module.
        module: ModuleName,
    },
    /// Show how its answers differ: how often, the first field, sizes, and what they took.
    Report {
        /// Which module.
        module: ModuleName,
    },
}

/// What to do with groups of modules.
#[derive(Clone, Debug, Subcommand)]
pub enum Group {
    /// Have the modules of a file run in the versions that it names, all of them or none: what runs another version is swapped, what does not
    /// run is started, and all of it takes charge in one step when all of it is ready.
    Apply {
        /// A TOML file with `group = "NAME"` and a table `[modules]` of MODULE = "VERSION"; `-` is standard input.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Keep the versions that are replaced frozen for this long; 0s ends them. Default: what `swap.keep` of their module.toml says.
        #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
        keep: Option<Duration>,
    },
    /// Print a group: the versions that it wants, those that run, and those that a rollback goes back to.
    Show {
        /// Which group.
        group: GroupName,
    },
    /// List groups.
    Ls,
    /// Put the versions before the last change of the group in charge again, all of them or none; in milliseconds where they are kept frozen.
    Rollback {
        /// Which group.
        group: GroupName,
        /// As in `apply`, for the versions that go.
        #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
        keep: Option<Duration>,
    },
    /// Forget a group. Its modules go on as they are.
    Rm {
        /// Which group.
        group: GroupName,
    },
}

/// What to do with tenants.
#[derive(Clone, Debug, Subcommand)]
pub enum Tenant {
    /// Declare a tenant: modules can be installed for it from now on.
    Add {
        /// Its name.
        name: TenantName,
        /// What it may have, like memory=2G cpu=1.5 pids=500 modules=20 workers=40 channels=100 services=20. What is not named has no
        /// limit.
        #[arg(value_name = "LIMIT=VALUE")]
        limits: Vec<TenantChange>,
    },
    /// Change what a tenant may have: done when the host enforces it. What it has already it keeps.
    Set {
        /// Which.
        name: TenantName,
        /// As in `add`; `none` lifts a limit, and those that are not named stay.
        #[arg(value_name = "LIMIT=VALUE", required = true)]
        limits: Vec<TenantChange>,
    },
    /// Take away a tenant that has no modules; its routes go with it.
    Rm {
        /// Which.
        name: TenantName,
    },
    /// Let modules of another tenant call a service of `--tenant`, if its module.toml exports it and they import it.
    Export {
        /// Which service.
        service: ServiceName,
        /// Whose modules.
        to: TenantName,
    },
    /// Take that back: done when none of them has a channel to it.
    Unexport {
        /// Which service.
        service: ServiceName,
        /// Whose modules.
        to: TenantName,
    },
    /// Let modules of `--tenant` mean a service of another tenant by its name. Their calls are denied until that tenant exports it.
    Import {
        /// Which service.
        service: ServiceName,
        /// Whose.
        from: TenantName,
    },
    /// Take that back: the name is that of a service of its own again.
    Unimport {
        /// Which service.
        service: ServiceName,
    },
    /// List tenants: what each has, and what it may have.
    Ls,
}

/// A new module.
#[derive(Clone, Debug, Args)]
pub struct New {
    /// Its name, and the name of its folder.
    pub name: ModuleName,
    /// With the SDK, or any HTTP server.
    #[arg(long, value_enum, default_value_t)]
    pub kind: Kind,
    /// Take the SDK (module-runtime) from this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub sdk_path: Option<PathBuf>,
    /// The folder to make it in.
    #[arg(long, default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub parent: PathBuf,
}

/// Kinds of new modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A Rust program with the SDK: services, calls, resources.
    #[default]
    Sdk,
    /// An HTTP server without the SDK, in Python's standard library.
    Http,
}

/// Limits of a module's workers, looked at or changed.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// Which module.
    pub module: ModuleName,
    /// LIMIT=VALUE, or LIMIT=default for what module.toml says. Limits: memory, `memory_high`, swap,
    /// cpu, `cpu_weight`, pids, `io_weight`. None: shows them.
    #[arg(value_name = "LIMIT=VALUE")]
    pub limits: Vec<ModuleChange>,
    /// Also below what a worker uses: one that does not fit is killed and started again.
    #[arg(long, requires = "limits")]
    pub force: bool,
}

/// A swap: begun, or steered while it is under way.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Swap {
    /// MODULE@VERSION.
    #[arg(value_name = "MODULE@VERSION", required = true)]
    pub module: Option<VersionTarget>,
    /// Keep the replaced workers frozen for this long, like 10m, for `mortise rollback`; 0s ends them. Default: what `swap.keep`
    /// of their module.toml says.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub keep: Option<Duration>,
    /// Give the new version these shares of the calls one after the other, in percent, like 5,25,50. At each it is judged, and a gate that
    /// fails takes all of it back.
    #[arg(long, value_delimiter = ',', value_parser = super::target::percent, value_name = "PERCENT,…", conflicts_with = "blue_green")]
    pub canary: Vec<u32>,
    /// Start all workers of the new version, give it all calls at once, judge it, then end the old one: as --canary 100.
    #[arg(long)]
    pub blue_green: bool,
    /// How long each step lasts at least, with --canary and --blue-green.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s", value_name = "TIME")]
    pub pause: Duration,
    /// The most that a figure of the new version may be: error_rate=+1% (more than the old one's), p99=2x, cpu=1.5x, memory=64M, restarts=0,
    /// or FIGURE=off; several with several --gate. Default: what `swap.gates` of the old version's module.toml says, else error_rate=+1%
    /// and restarts=0.
    #[arg(long = "gate", value_name = "FIGURE=MOST")]
    pub gates: Vec<Gate>,
    /// Calls that the new version must have answered in a step before it is judged by them; the step lasts until then.
    #[arg(long, default_value_t = crate::api::min_calls(), value_name = "N")]
    pub min_calls: u64,
    /// The new version begins without the state of the old one, though they could hand it over.
    #[arg(long)]
    pub without_state: bool,
    /// Or steer one that is under way.
    #[command(subcommand)]
    pub steering: Option<Steer>,
}

/// What is to become of a swap that is under way.
#[derive(Clone, Debug, Subcommand)]
pub enum Steer {
    /// Stay at the step where it is; it is still judged.
    Pause {
        /// Which module.
        module: ModuleName,
    },
    /// Go on after a pause.
    Resume {
        /// Which module.
        module: ModuleName,
    },
    /// End what it has started; the version in charge stays.
    Abort {
        /// Which module.
        module: ModuleName,
    },
}

/// A module's services.
#[derive(Clone, Debug, Args)]
pub struct Services {
    /// Which module.
    pub module: ModuleName,
    /// Which of its services; all without it.
    pub service: Option<ServiceName>,
}

/// Where to look.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Examine the host from here and ask no supervisor.
    #[arg(long)]
    pub host_only: bool,
    /// The state directory.
    #[arg(long, default_value = "/var/lib/mortise", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: PathBuf,
    /// The run directory.
    #[arg(long, default_value = "/run/mortise", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub run: PathBuf,
    /// The folder of mortise-init; that of this program if not said.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub libexec: Option<PathBuf>,
    /// Addresses that the ingress shall listen on and that must be free.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
