//! The supervisor of Mortise.

fn main() -> std::process::ExitCode {
    mortise_supervisor::daemon::main()
}
