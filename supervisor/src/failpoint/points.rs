//! All points, by name.

use mortise_control::ToWorker;

use crate::api::OperationState;
use crate::store::Change;

macro_rules! points {
    ($($(#[$what:meta])* $point:ident = $name:literal,)*) => {
        /// A place in which a fault can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Point { $($(#[$what])* $point,)* }

        #[cfg(feature = "failpoints")]
        impl Point {
            /// Every name; those with a `:` have a detail behind it.
            pub const NAMES: &[&str] = &[$($name,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    /// A transaction is about to be written; which, says [`of_changes`].
    Commit = "commit",
    /// It is on disk, and nobody knows. An error: the disk says that it failed.
    Committed = "committed",
    /// The client is about to be told that the operation is accepted.
    Answer = "answer",
    /// An operation has come to a step.
    Step = "step",
    /// Its end is on disk, and nobody has heard of it.
    Finish = "finish",

    /// The package of a worker that is to be started is looked at.
    Package = "package",
    /// A group is about to be made.
    Group = "group",
    /// A worker's run folder is about to be made.
    Folder = "folder",
    /// Its control socket is.
    Control = "control",
    /// A memfd for its boot record or its plan is.
    Memfd = "memfd",
    /// Its process is.
    Clone = "clone",
    /// Its process is there, and init works.
    Plan = "plan",
    /// It runs, and the loop takes it over.
    Watch = "watch",

    /// It has said hello, and its page is about to be made.
    Page = "page",
    /// The memory of a channel is about to be made.
    Channel = "channel",
    /// Both ends are about to be told.
    Attach = "attach",
    /// The caller is told, the callee is not.
    Attached = "attached",
    /// Both have mapped, and the segments are about to be sealed.
    Seal = "seal",
    /// They are sealed, and the caller has the callee's.
    Opened = "opened",
    /// A worker is about to be told something; what, says [`of_message`].
    Send = "send",

    /// A worker is about to get SIGTERM.
    Terminate = "terminate",
    /// It is about to be frozen.
    Freeze = "freeze",
    /// It is about to be thawed.
    Thaw = "thaw",
    /// It is about to be killed.
    Kill = "kill",
    /// What is left of it is about to be removed.
    Remove = "remove",

    /// The kernel is about to be told a tenant's limits.
    Quota = "quota",
    /// It is about to be told other limits of a worker.
    Limit = "limit",
    /// The memory for a worker's state is about to be made.
    State = "state",
    /// The state is in it, and it is about to be sealed.
    StateSeal = "state-seal",
    /// The figures of a swap by steps are about to be read.
    Measure = "measure",

    /// A resource is about to be loaded.
    Load = "load",
    /// It is let go of.
    Release = "release",

    /// A package has arrived, is whole, and gets its names.
    Place = "place",
    /// Its file has its name, its tree has not.
    Placed = "placed",
    /// A package is about to be removed.
    Unplace = "unplace",
    /// Its tree is gone, its file is not.
    Unplaced = "unplaced",

    /// A new supervisor is about to remove what nobody will miss.
    Sweep = "sweep",
    /// It is about to take a worker over.
    Adopt = "adopt",
    /// The loop has ended, and this process is about to become another program.
    Exec = "exec",
}

/// What a transaction is for: the acceptance of an operation, a step of it, a commit or its end; else workers or counters. A swap by steps
/// has a commit for its coming beside, for each share and for a verdict.
pub(crate) fn of_changes(changes: &[Change]) -> String {
    let operations = || {
        changes.iter().filter_map(|it| match it {
            Change::PutOperation(record) => Some(&**record),
            _ => None,
        })
    };
    // An abort's acceptance writes the swap that it ends, too.
    if operations().any(|it| it.operation.steps.len() <= 1) {
        return "accept".to_owned();
    }
    let is = |what: fn(&Change) -> bool| changes.iter().any(what);
    let Some(record) = operations().next() else {
        return if is(|it| matches!(it, Change::PutWorker(_))) { "worker" } else { "meta" }.to_owned();
    };
    let last = record.operation.steps.last().map_or("", |it| &it.step);
    match &record.verdict {
        _ if record.operation.state != OperationState::Running => "end".to_owned(),
        Some(_) if is(|it| matches!(it, Change::PutModule(_))) => "verdict".to_owned(),
        None if last == "commit" => last.to_owned(),
        None if is(|it| matches!(it, Change::PutModule(_))) => of_step(last),
        _ => "step".to_owned(),
    }
}

/// The name of a step as part of a point's: without spaces.
pub(crate) fn of_step(step: &str) -> String {
    step.replace(' ', "-")
}

/// What a message is.
pub(crate) const fn of_message(message: &ToWorker) -> &'static str {
    match message {
        ToWorker::Welcome(_) => "welcome",
        ToWorker::Attach(_) => "attach",
        ToWorker::Open { .. } => "open",
        ToWorker::Close { .. } => "close",
        ToWorker::Routes { .. } => "routes",
        ToWorker::HttpRoutes { .. } => "http-routes",
        ToWorker::Drain { .. } => "drain",
        ToWorker::Ping { .. } => "ping",
        ToWorker::ExportState { .. } => "export-state",
        ToWorker::ImportState { .. } => "import-state",
    }
}
