//! A worker that wants to do harm, beside two that do their work: what it cannot do to them, to the supervisor and to the host.
//!
//! ```text
//!   Scene: mortised ── unruly ◀── load (calls without a pause)         the victims
//!                  └── attacker ATTACK                                 tests/modules/src/bin/attacker
//! ```
//! One supervisor and its victims live through all attacks, one after the other. Each attack ends with [`scene::Scene::end`]: no call
//! of the victims has failed since the beginning, neither was started again, the supervisor has the descriptors and about the memory
//! that it had before the first attack, and nothing of the attacker is left on the host. The last test stops the supervisor and compares
//! the machine with what it was before. An attack that fails costs the others nothing: the next begins with a new supervisor.
//!
//! `docs/threat-model.md` has the table of attacks and defences that these tests belong to. `cargo xtask test --only hostile` runs them.

mod after_all;
mod bombs;
mod channels;
mod floods;
mod lives;
mod output;
mod packages;
mod scene;
mod view;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A function for each, in this order.
macro_rules! attacks {
    ($($file:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($file), "::", stringify!($name)), $file::$name)),+),+]
    };
}

const ATTACKS: &[(&str, fn())] = attacks! {
    bombs:
        a_fork_bomb_ends_with_the_module,
        a_thread_bomb_ends_at_the_pids_limit,
        memory_without_end_is_taken_from_nobody_else,
        a_full_tmp_is_full_for_nobody_else,
        folders_without_end_are_removed_with_the_worker;
    channels:
        a_sealed_segment_stays_what_it_is_whatever_either_end_tries,
        who_shrinks_its_segment_before_the_seal_is_killed,
        who_grows_its_segment_before_the_seal_is_killed,
        who_seals_its_segment_against_the_seal_is_killed,
        who_never_maps_its_segment_keeps_nobody_else_waiting,
        a_caller_that_scribbles_over_its_segment_is_killed_and_its_callee_serves_on,
        a_callee_that_scribbles_over_its_segment_is_killed_and_its_caller_goes_on;
    floods:
        calls_without_end_are_refused_beyond_their_share,
        who_takes_no_answers_has_no_further_calls,
        calls_that_are_cancelled_at_once_keep_nobody_else_waiting,
        a_bell_that_never_stops_keeps_nobody_else_waiting,
        lines_without_end_are_dropped_and_counted,
        packets_that_are_no_messages_cost_nobody_but_their_sender,
        packets_that_are_too_large_are_not_read,
        a_message_in_parts_without_end_is_not_collected,
        messages_without_end_are_read_at_the_supervisor_s_pace,
        descriptors_that_a_worker_sends_are_kept_by_nobody,
        connections_without_end_are_taken_at_the_supervisor_s_pace,
        lies_about_channels_and_workers_change_nothing;
    lives:
        ready_said_again_is_nothing_new,
        a_grandchild_that_is_ready_ends_with_its_first_process,
        who_ends_right_after_ready_was_ready_and_is_gone,
        nobody_is_heard_before_it_is_known,
        a_hello_with_another_s_name_or_token_gets_no_answer,
        who_ignores_drain_and_sigterm_is_killed,
        who_stands_still_in_the_drain_is_killed,
        who_leaves_a_writer_behind_leaves_nothing_behind;
    output:
        a_line_without_end_is_cut_and_counted,
        nothing_that_a_worker_prints_is_obeyed_by_a_terminal;
    packages:
        setuid_files_and_links_are_not_packed,
        a_link_that_takes_a_file_s_place_while_it_is_packed_leads_nowhere;
    view:
        an_attacker_reaches_nothing_but_its_own;
    after_all:
        the_machine_is_what_it_was;
};

fn main() -> ExitCode {
    // One at a time: they share a supervisor.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trial = |&(name, attack): &(&'static str, fn())| {
        Trial::test(name, move || {
            if mortise_tests::is_root() {
                attack();
            } else {
                mortise_tests::skip(name, "it needs root");
            }
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, ATTACKS.iter().map(trial).collect());
    // Where a filter left out the test that stops it.
    scene::stop();
    conclusion.exit_code()
}
