//! The first program of every worker.
//!
//! ```text
//!   mortise-init PLAN_FD STATUS_FD
//!     reads the plan, performs its steps in order      steps.rs, mounts.rs, rights.rs
//!     Run::Exec    becomes the program
//!     Run::Serve   starts the program and stays as its pid 1          serve/
//! ```
//!
//! It decides nothing that the plan could say, and what it cannot do it reports as a [`Failure`] on the status pipe, and ends.

mod mounts;
mod rights;
mod serve;
mod start;
mod steps;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use mortise_control::plan::{DONE, Failure, MAX_FAILURE, Plan, Program, Run};
use mortise_control::{BOOT_FD, Boot, PROTOCOL};

/// Why init cannot go on.
#[derive(Debug)]
struct Broken {
    step: &'static str,
    about: String,
    errno: i32,
}

impl Broken {
    fn new(step: &'static str, about: impl Into<String>, error: &io::Error) -> Self {
        let mut about = about.into();
        if error.raw_os_error().is_none() {
            about = format!("{about}: {error}");
        }
        Self { step, about, errno: error.raw_os_error().unwrap_or(0) }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<i32>().ok());
    let (Some(Some(plan)), Some(Some(status))) = (arguments.next(), arguments.next()) else {
        eprintln!("mortise-init is started by mortised: mortise-init PLAN_FD STATUS_FD");
        return ExitCode::from(2);
    };
    let (plan, status) = match (start::inherited(plan), start::inherited(status)) {
        (Ok(plan), Ok(status)) => (plan, status),
        (plan, status) => {
            eprintln!("mortise-init: descriptors of the plan and the status pipe: {plan:?}, {status:?}");
            return ExitCode::from(2);
        }
    };
    let mut status = File::from(status);
    let Err(broken) = run(plan, &mut status);
    report(&mut status, &broken);
    eprintln!("mortise-init: {} {}: {}", broken.step, broken.about, io::Error::from_raw_os_error(broken.errno));
    ExitCode::FAILURE
}

enum Never {}

fn run(plan: OwnedFd, status: &mut File) -> Result<Never, Broken> {
    let plan: Plan = read(plan, "plan")?;
    if plan.protocol != PROTOCOL {
        let about =
            format!("it has protocol {}, this mortise-init {PROTOCOL}: both belong to one release", plan.protocol);
        return Err(Broken { step: "plan", about, errno: 0 });
    }
    steps::perform(&plan.steps)?;
    match plan.run {
        Run::Exec => Err(exec(&plan.program, status)),
        Run::Serve(how) => {
            let boot = start::inherited(BOOT_FD).map_err(|e| Broken::new("boot", "its descriptor", &e))?;
            let boot: Boot = read(boot, "boot")?;
            serve::serve(&plan.program, &how, boot, status)
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(fd: OwnedFd, what: &'static str) -> Result<T, Broken> {
    let file = File::from(fd);
    let len = file.metadata().map_err(|e| Broken::new(what, "its length", &e))?.len();
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(|e| Broken::new(what, "its bytes", &e))?;
    rmp_serde::from_slice(&bytes).map_err(|e| Broken { step: what, about: e.to_string(), errno: 0 })
}

/// Becomes the program. Returns only if that fails.
fn exec(program: &Program, status: &mut File) -> Broken {
    if let Err(error) = status.write_all(&[DONE]) {
        return Broken::new("exec", "the status pipe", &error);
    }
    let environment = program.environment.iter().filter_map(|it| it.split_once('='));
    let mut command = Command::new(&program.path);
    command.env_clear().envs(environment).current_dir(&program.folder);
    if let Some((name, arguments)) = program.arguments.split_first() {
        command.arg0(name).args(arguments);
    }
    Broken::new("exec", program.path.display().to_string(), &command.exec())
}

/// The pipe closes with us, and an unwritten report is an end without a word: nothing more can be done about it.
fn report(status: &mut File, broken: &Broken) {
    let about: String = broken.about.chars().take(MAX_FAILURE / 8).collect();
    let failure = Failure { step: broken.step.into(), about, errno: broken.errno };
    if let Ok(bytes) = rmp_serde::to_vec_named(&failure) {
        let _ = status.write_all(&bytes);
    }
}
