//! `docs/cli.md` says what `mortise --help` says.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use mortise_supervisor::cli::Arguments;

const BEGIN: &str = "--test documents` -->\n";
const END: &str = "<!-- end of what is generated -->";

/// The help of every command; the options that all have are said once.
fn commands() -> String {
    let mut root = Arguments::command().term_width(100);
    root.build();
    let mut text = format!("### mortise\n\n```text\n{}```\n", help(&mut root.clone()));
    for command in root.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()) {
        let mut command = command.clone().term_width(100);
        let global: Vec<_> =
            command.get_arguments().filter(|it| it.is_global_set()).map(|it| it.get_id().clone()).collect();
        for id in global {
            command = command.mut_arg(id, |it| it.hide(true));
        }
        let help = help(&mut command);
        let _ = write!(text, "\n### mortise {}\n\n```text\n{help}```\n", command.get_name());
    }
    text
}

fn help(command: &mut Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

#[test]
fn the_page_about_the_command_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("where the generated part begins");
    let (_, after) = rest.split_once(END).expect("where the generated part ends");
    let current = format!("{before}{BEGIN}\n{}\n{END}{after}", commands());
    if std::env::var_os("MORTISE_UPDATE_DOCS").is_some() {
        std::fs::write(&file, &current).unwrap();
    } else {
        assert!(
            page == current,
            "docs/cli.md is stale: MORTISE_UPDATE_DOCS=1 cargo test -p mortise-supervisor --test documents"
        );
    }
}
