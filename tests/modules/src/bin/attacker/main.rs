//! The module `attacker`: speaks the control protocol by hand, without the SDK, and does not keep to it.
//!
//! `attacker ATTACK [ARGUMENT…]`: each attack is a function of a file here, and one test under `tests/hostile` runs it. An attack
//! that finds something out says so in a line of its output.

mod bombs;
mod calls;
mod channels;
mod floods;
mod lives;
mod numbers;
mod output;
mod raw;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let attack = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match attack.as_str() {
        "ready-twice" => lives::ready_twice(),
        "ready-from-a-grandchild" => lives::ready_from_a_grandchild(),
        "exit-after-ready" => lives::exit_after_ready(),
        "speaks-before-it-is-known" => lives::speaks_before_it_is_known(),
        "says-it-is-another" => lives::says_it_is_another(),
        "ignores-the-end" => lives::ignores_the_end(),
        "stands-still-in-the-drain" => lives::stands_still_in_the_drain(),
        "leaves-a-writer" => lives::leaves_a_writer(),

        "forks" => bombs::forks(),
        "threads" => bombs::threads(),
        "memory" => bombs::memory(),
        "fills-its-tmp" => bombs::fills_its_tmp(),
        "digs-folders" => bombs::digs_folders(),

        "endless-line" => output::endless_line(),
        "endless-lines" => output::endless_lines(),
        "terminal" => output::terminal(),

        "looks-around" => view::looks_around(&rest),

        "opens-segments-again" => channels::opens_segments_again(),
        "shrinks-its-segment" => channels::tampers(channels::Tamper::Shrink),
        "grows-its-segment" => channels::tampers(channels::Tamper::Grow),
        "seals-its-segment" => channels::tampers(channels::Tamper::Seal),
        "never-maps" => channels::never_maps(),
        "scribbles" => channels::scribbles(),

        "calls" => calls::calls(),
        "keeps-its-answers" => calls::keeps_its_answers(),
        "cancels" => calls::cancels(),
        "rings" => calls::rings(),

        "noise" => floods::noise(),
        "huge-packets" => floods::huge_packets(),
        "endless-parts" => floods::endless_parts(),
        "endless-pongs" => floods::endless_pongs(),
        "descriptors" => floods::descriptors(),
        "connections" => floods::connections(),
        "lies" => floods::lies(),
        other => {
            eprintln!("there is no attack {other:?}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
