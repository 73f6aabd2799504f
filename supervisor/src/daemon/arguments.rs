//! The command line of `mortised`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum, value_parser};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::settings::Settings;
use crate::host::Promise;

/// The lowest uid that workers may be given: those below belong to the system and its people.
pub(super) const FIRST_UID_LEAST: i64 = 1001;

/// The highest: above it there must be room for a slot each.
pub(super) const FIRST_UID_MOST: i64 = 4_000_000_000;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  stop every module in order and end; with --workers-unit, end and leave them running
  SIGHUP           read mortise.toml again: all of it is taken, or none and the log says why

Exit codes:
    0  ended as it was told to
    1  not started: the log says why
    2  the command line is wrong
   78  mortise.toml, a unit or the host is to be changed before it can start: the log says what
  100  with --workers-unit: ended by `mortise shutdown`, nothing runs any more

`mortised hold` is for the unit of --workers-unit: it keeps that unit's group, and does nothing else.";

/// The supervisor of Mortise: runs modules as isolated workers, joins them by shared memory, and swaps them while they serve.
///
/// Each option but --config and --check-config is also a key of mortise.toml, with `_` for `-`; the option wins.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "mortised", version, disable_help_subcommand = true, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// File of settings; FILE.d/*.toml go over it in the order of their names. /dev/null is none [default, if it is there:
    /// /etc/mortise/mortise.toml, or without root ~/.config/mortise/mortise.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings that would be in force and where each is from, or everything that is wrong with them, and end
    #[arg(long)]
    pub check_config: bool,
    /// Folder of what outlives a restart of the host: desired state, packages, logs [default: /var/lib/mortise]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Folder of sockets and of what workers see of the supervisor [default: /run/mortise]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Socket of the admin API [default: RUN/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub admin: Option<PathBuf>,
    /// Address on which the base takes HTTP requests; port 0 takes any that is free and keeps it. May be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<SocketAddr>,
    /// Package of the base, as a folder or as a file of `mortise pack`: installed, started and published at start
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Folder of `mortise-init` [default: the folder of this program]
    #[arg(long, value_name = "DIR")]
    pub libexec: Option<PathBuf>,
    /// Promises that need not be kept on this host, by name and separated by commas; `mortise doctor` lists them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allow_degraded: Vec<Promise>,
    /// The systemd unit in whose group workers live: delegated, and kept by `mortised hold`. SIGTERM then ends this program alone and leaves
    /// them running for its successor; `mortise shutdown` ends them too. Without it they live in this program's own group and end with it
    #[arg(long, value_name = "UNIT")]
    pub workers_unit: Option<String>,
    /// The uid of the first worker; each of the others has one of those above it [default: 200000]
    #[arg(long, value_name = "FIRST", value_parser = value_parser!(u32).range(FIRST_UID_LEAST..=FIRST_UID_MOST))]
    pub tenant_uids: Option<u32>,
    /// How much of this program's own log there is: off, error, warn, info, debug or trace, also for a part, like
    /// info,mortise_supervisor::engine=trace [default: info]
    #[arg(long, value_name = "FILTER", env = "MORTISE_LOG", value_parser = log_filter)]
    pub log: Option<String>,
    /// How this program's own log looks [default: journal if stderr goes there, as in a systemd unit, else text]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|why| why.to_string())
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, on stderr.
    Text,
    /// One JSON object a line, on stderr.
    Json,
    /// The systemd journal, with fields: `journalctl MODULE=spell`. Modules' lines go there too, instead of into files.
    Journal,
}

impl Arguments {
    /// Puts what is said here over the settings. Returns the options that are said.
    pub(super) fn over(&self, settings: &mut Settings) -> Vec<&'static str> {
        let mut said = Vec::new();
        fn one<T: Clone>(said: &mut Vec<&'static str>, option: &'static str, value: &Option<T>, to: &mut T) {
            if let Some(value) = value {
                to.clone_from(value);
                said.push(option);
            }
        }
        let some = |value: &Option<PathBuf>| value.clone().map(Some);
        let any = |list: &[SocketAddr]| (!list.is_empty()).then(|| list.to_vec());
        one(&mut said, "--state", &self.state, &mut settings.state);
        one(&mut said, "--run", &self.run, &mut settings.run);
        one(&mut said, "--admin", &some(&self.admin), &mut settings.admin);
        one(&mut said, "--listen", &any(&self.listen), &mut settings.listen);
        one(&mut said, "--base", &some(&self.base), &mut settings.base);
        one(&mut said, "--libexec", &some(&self.libexec), &mut settings.libexec);
        let allowed = (!self.allow_degraded.is_empty()).then(|| self.allow_degraded.clone());
        one(&mut said, "--allow-degraded", &allowed, &mut settings.allow_degraded);
        one(&mut said, "--workers-unit", &self.workers_unit.clone().map(Some), &mut settings.workers_unit);
        one(&mut said, "--tenant-uids", &self.tenant_uids, &mut settings.tenant_uids);
        one(&mut said, "--log", &self.log, &mut settings.log);
        one(&mut said, "--log-format", &self.log_format.map(Some), &mut settings.log_format);
        said
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("mortised").chain(words.iter().copied()))
    }

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
        let given = parse(&["--run", "/r", "--listen", "127.0.0.1:0", "--listen", "[::1]:80"]).unwrap();
        assert_eq!(given.listen.len(), 2);
    }

    #[test]
    fn promises_are_named_and_a_wrong_name_is_told_the_right_ones() {
        let given = parse(&["--allow-degraded", "seccomp,freeze"]).unwrap();
        assert_eq!(given.allow_degraded, [Promise::Seccomp, Promise::Freeze]);
        let refused = parse(&["--allow-degraded", "safety"]).unwrap_err().to_string();
        assert!(refused.contains("safety") && refused.contains("landlock"), "{refused}");
    }

    #[test]
    fn a_uid_of_the_system_is_not_for_workers() {
        for wrong in ["0", "1000", "4294967295"] {
            assert!(parse(&["--tenant-uids", wrong]).is_err(), "{wrong}");
        }
    }
}
