//! The loader itself: what `mortised loader …` does.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the loader; `args` are those after `loader`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args.into_iter();
    unimplemented!()
}
