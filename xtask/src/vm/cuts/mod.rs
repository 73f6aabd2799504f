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

/// The same without a sync: one of the cuts is to leave what the check finds wrong. It ends with that one.
///
/// # Errors
/// As for [`run`].
pub(super) fn are_noticed(image: &Image, payload: &Path, cuts: u32, mut line: impl FnMut(&str)) -> Result<(), Failure> {
    let mut noticed = false;
    cut(image, payload, cuts, &mut line, |cut, wrong, line| {
        line(&format!(
            "vm: cut {cut} without a sync: {}",
            if wrong.is_empty() { "nothing is wrong" } else { "noticed" }
        ));
        noticed |= !wrong.is_empty();
        !noticed
    })?;
    line(&format!("test cuts::one_without_a_sync_is_noticed ... {}", if noticed { "ok" } else { "FAILED" }));
    let (result, passed) = if noticed { ("ok", 1) } else { ("FAILED", 0) };
    line(&format!("test result: {result}. {passed} passed; {} failed; 0 ignored", 1 - passed));
    Ok(())
}

/// Cuts the power so many times and hands over each line that was printed, and one for each cut as libtest has it.
///
/// # Errors
/// The machine could not be started, or hangs.
pub(super) fn run(image: &Image, payload: &Path, cuts: u32, mut line: impl FnMut(&str)) -> Result<(), Failure> {
    let (mut passed, mut failed) = (0, 0);
    cut(image, payload, cuts, &mut line, |cut, wrong, line| {
        let (result, count) = if wrong.is_empty() { ("ok", &mut passed) } else { ("FAILED", &mut failed) };
        *count += 1;
        line(&format!("test cuts::cut_{cut} ... {result}"));
        true
    })?;
    let result = if failed == 0 { "ok" } else { "FAILED" };
    line(&format!("test result: {result}. {passed} passed; {failed} failed; 0 ignored"));
    Ok(())
}

/// Cuts the power, and has `judge` say of each cut and of what is wrong after it whether there is to be another one.
fn cut<L: FnMut(&str)>(
    image: &Image,
    payload: &Path,
    cuts: u32,
    line: &mut L,
    mut judge: impl FnMut(u32, &[String], &mut L) -> bool,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let disk = scratch.path().join("disk.img");
    output(Command::new("cp").arg("--sparse=always").arg(&image.disk).arg(&disk))?;
    let mut model = Model::default();
    for cut in 0..=cuts {
        let machine = Machine::start(image, Disk::Lasting(&disk), payload)?;
        let Some(told) = until_it_works(&machine, line)? else {
            return Err("the machine came to its end before operations ran".into());
        };
        let state = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
        let wrong = model.look(&state, cut == 0);
        wrong.iter().for_each(|it| line(&format!("    {it}")));
        if cut > 0 {
            line(&format!("vm: after cut {cut}: {}", state["asked"]));
            if !judge(cut, &wrong, line) {
                return Ok(());
            }
        }
        if cut < cuts {
            let while_ = random(WORK);
            work(machine, &mut model, Instant::now() + while_)?;
            let (acknowledged, under_way) = model.counts();
            line(&format!("vm: cut {} after {while_:?}: {acknowledged} acknowledged, {under_way} under way", cut + 1));
        }
    }
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
