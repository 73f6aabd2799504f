//! Power cuts: the machine is ended by SIGKILL at a random moment while operations run, again and again on the same disk. Only what was
//! synced is there at the next boot, besides what the kernel happened to have written by then.
//!
//! ```text
//!   cuts.sh  package, modules, who is required ─▶ cuts.py  looks ─ "state" ─▶ model.rs compares ─▶ a test passed, or not
//!                                                     ▲    works ─ "begin", "done" ─▶ model.rs
//!                                                     └───── boot ◀── SIGKILL after a random while
//! ```

mod model;

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use xtask::Failure;
use xtask::command::output;

use super::image::Image;
use super::machine::{Disk, Machine, Next};
use model::Model;

/// The longest while that operations run before a cut: some of each kind, where the processor is emulated.
const WORK: Duration = Duration::from_secs(12);

/// Cuts the power so many times and hands over each line that was printed, and one for each cut as libtest has it.
///
/// # Errors
/// The machine could not be started, or hangs.
pub(super) fn run(image: &Image, payload: &Path, cuts: u32, mut line: impl FnMut(&str)) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let disk = scratch.path().join("disk.img");
    output(Command::new("cp").arg("--sparse=always").arg(&image.disk).arg(&disk))?;
    let (mut model, mut failed) = (Model::default(), 0);
    for cut in 0..=cuts {
        let machine = Machine::start(image, Disk::Lasting(&disk), payload)?;
        let Some(told) = until_it_works(&machine, &mut line)? else { return Ok(()) };
        let state = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
        let wrong = model.look(&state, cut == 0);
        if cut > 0 {
            line(&format!("vm: after cut {cut}: {}", state["asked"]));
            line(&format!("test cuts::cut_{cut} ... {}", if wrong.is_empty() { "ok" } else { "FAILED" }));
        }
        wrong.iter().for_each(|it| line(&format!("    {it}")));
        failed += u32::from(!wrong.is_empty());
        if cut < cuts {
            let while_ = random(WORK);
            work(machine, &mut model, Instant::now() + while_)?;
            let (acknowledged, under_way) = model.counts();
            line(&format!("vm: cut {} after {while_:?}: {acknowledged} acknowledged, {under_way} under way", cut + 1));
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    line(&format!("test result: {result}. {} passed; {failed} failed; 0 ignored", cuts.saturating_sub(failed)));
    Ok(())
}

/// Hands lines over until operations run; the state before them. None, if it came to an end without.
fn until_it_works(machine: &Machine, line: &mut impl FnMut(&str)) -> Result<Option<String>, Failure> {
    let mut state = None;
    loop {
        match machine.next()? {
            Next::Line(text) => match text.strip_prefix("cut: ").and_then(|it| it.strip_suffix(" ;")) {
                Some("works") => return Ok(state),
                Some(told) => state = told.strip_prefix("state ").map(ToOwned::to_owned).or(state),
                None => line(&text),
            },
            Next::End | Next::Nothing => return Ok(None),
        }
    }
}

/// Listens until that moment, and cuts the power.
fn work(machine: Machine, model: &mut Model, until: Instant) -> Result<(), Failure> {
    let mut hear = |text: &str| {
        if let Some(told) = text.strip_prefix("cut: ") {
            model.hear(told);
        }
    };
    while let Next::Line(text) = machine.next_until(until)? {
        hear(&text);
    }
    machine.cut().iter().for_each(|it| hear(it));
    Ok(())
}

/// Up to so long.
fn random(most: Duration) -> Duration {
    let bits = RandomState::new().hash_one(Instant::now());
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(bits % millis)
}
