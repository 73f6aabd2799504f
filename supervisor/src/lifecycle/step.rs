//! The steps of operations, by name. `docs/operations.md` says of each what becomes of an operation when the supervisor dies in it.

use std::borrow::Cow;

macro_rules! steps {
    ($($(#[$what:meta])* $step:ident = $name:literal,)*) => {
        /// How far an operation has come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Step {
            $($(#[$what])* $step,)*
            /// The version beside gets so many percent.
            Share(u32),
        }

        impl Step {
            /// All that have a name of their own.
            #[cfg(test)]
            pub(super) const NAMED: &[Self] = &[$(Self::$step,)*];
        }

        impl Step {
            /// As it stands in an operation.
            pub(super) fn name(self) -> Cow<'static, str> {
                match self {
                    $(Self::$step => $name.into(),)*
                    Self::Share(percent) => format!("share {percent}%").into(),
                }
            }
        }
    };
}

steps! {
    /// It is on disk.
    Accept = "accept",
    /// Files of a package are being removed.
    RemovePackage = "remove-package",
    /// Workers, or resources, are being started.
    Start = "start",
    /// Kept workers are being thawed.
    Thaw = "thaw",
    /// All that it waits for are ready.
    Ready = "ready",
    /// Calls of the old worker are held back: it is to hand its state over.
    Hold = "hold",
    /// The old worker is asked for its state.
    Export = "export",
    /// The new worker is given it.
    Import = "import",
    /// That a version runs beside the one in charge is on its way to the disk.
    Beside = "beside",
    /// That another cohort is in charge is on its way to the disk.
    Commit = "commit",
    /// Channels and routes go to the new workers.
    Flip = "flip",
    /// Callers and bases are told.
    Route = "route",
    /// Rings are being closed.
    Close = "close",
    /// The kernel is told limits.
    Enforce = "enforce",
    /// Workers leave, and finish what is in flight.
    Drain = "drain",
    /// Workers that leave are being frozen.
    Freeze = "freeze",
    /// What is left of workers is being removed.
    CleanUp = "clean-up",
    /// What it had made is being removed.
    RollBack = "roll-back",
}
