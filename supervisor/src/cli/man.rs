//! Manual pages, out of the command lines themselves.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use super::Arguments;
use super::fault::{Done, Fault};

/// Writes a page for `mortise`, one for each of its commands, and one for `mortised`.
pub fn write(folder: &Path) -> Done {
    let mut mortise = Arguments::command();
    mortise.build();
    for command in mortise.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()) {
        page(command.clone(), &format!("mortise-{}", command.get_name()), "1", folder)?;
    }
    page(mortise, "mortise", "1", folder)?;
    page(crate::daemon::Arguments::command(), "mortised", "8", folder)
}

fn page(command: Command, name: &str, section: &str, folder: &Path) -> Done {
    let folder = folder.join(format!("man{section}"));
    let file = folder.join(format!("{name}.{section}"));
    let failed = |error| Fault::file(&file, &error);
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut text = Vec::new();
    clap_mangen::Man::new(command).title(name).section(section).render(&mut text).map_err(failed)?;
    fs::write(&file, text).map_err(failed)?;
    Ok(())
}
