//! The command line of Mortise.

fn main() -> std::process::ExitCode {
    mortise_supervisor::cli::main()
}
