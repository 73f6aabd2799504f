//! What is built, and the folders that `mortise install` takes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::command::{cargo, root, run};

/// Build everything and lay out one folder per module.
#[derive(Args, Debug)]
pub struct Packages {
    /// How to build
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// How things are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build, slow to run: for tests
    Dev,
    /// Slower to build, fast to run: for the demo
    Release,
    /// As shipped: for figures
    Dist,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// What lies where after a build.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The folder of the programs.
    pub programs: PathBuf,
    /// The folder of the module folders.
    pub packages: PathBuf,
}

/// A module folder: where its module.toml is, what its executable is called, and which other files it has.
struct Module {
    name: &'static str,
    folder: &'static str,
    program: Option<&'static str>,
    files: &'static [&'static str],
}

const MODULES: &[Module] = &[
    Module { name: "base", folder: "supervisor/base/package", program: Some("mortise-base"), files: &[] },
    Module { name: "dictionary", folder: "examples/dictionary", program: None, files: &[] },
    Module { name: "spell", folder: "examples/spell", program: Some("spell"), files: &[] },
    Module { name: "markdown-1", folder: "examples/markdown/1.0", program: Some("markdown-1"), files: &[] },
    Module { name: "markdown-2", folder: "examples/markdown/2.0", program: Some("markdown-2"), files: &[] },
    Module { name: "site", folder: "examples/site", program: Some("site"), files: &[] },
    Module { name: "legacy", folder: "examples/legacy", program: None, files: &["guestbook.py"] },
    Module { name: "custom-base", folder: "examples/custom-base", program: Some("custom-base"), files: &[] },
    Module { name: "visits", folder: "examples/custom-base/visits", program: Some("visits"), files: &[] },
    Module { name: "unruly", folder: "tests/modules/unruly", program: Some("unruly"), files: &[] },
    Module { name: "load", folder: "tests/modules/load", program: Some("load"), files: &[] },
    Module { name: "recorder", folder: "tests/modules/recorder", program: Some("recorder"), files: &[] },
    Module { name: "callers", folder: "tests/modules/callers", program: Some("callers"), files: &[] },
    Module { name: "relay", folder: "tests/modules/relay", program: Some("relay"), files: &[] },
    Module { name: "front", folder: "tests/modules/front", program: Some("front"), files: &[] },
    Module { name: "trial", folder: "tests/modules/trial", program: Some("trial"), files: &[] },
    Module { name: "asker", folder: "tests/modules/asker", program: Some("asker"), files: &[] },
    Module { name: "counter", folder: "tests/modules/counter", program: Some("counter"), files: &[] },
    Module { name: "tally", folder: "tests/modules/tally", program: Some("tally"), files: &[] },
    Module { name: "attacker", folder: "tests/modules/attacker", program: Some("attacker"), files: &[] },
];

impl Packages {
    /// Builds, and prints the folder of the module folders.
    ///
    /// # Errors
    /// Something did not build.
    pub fn run(self) -> Result<(), Failure> {
        let artifacts = Artifacts::build(self.profile)?;
        println!("{}", artifacts.packages.display());
        Ok(())
    }
}

impl Artifacts {
    /// Builds the programs and lays out the module folders; where MORTISE_ARTIFACTS names a folder, all that is there already.
    ///
    /// # Errors
    /// Something did not build.
    pub fn build(profile: Profile) -> Result<Self, Failure> {
        if let Some(programs) = std::env::var_os("MORTISE_ARTIFACTS").map(PathBuf::from) {
            return Ok(Self { packages: programs.join("packages"), programs });
        }
        build_programs(profile)?;
        let programs = target().join(profile.folder());
        let packages = programs.join("packages");
        for module in MODULES {
            lay_out(module, &programs, &packages.join(module.name))?;
        }
        let words = packages.join("dictionary/words.fst");
        if !words.exists() {
            run(Command::new(programs.join("dictionary")).arg(&words))?;
        }
        Ok(Self { programs, packages })
    }
}

impl Artifacts {
    /// Lays a module out in `to` once more, as another version.
    ///
    /// # Errors
    /// Its folder cannot be copied, or its module.toml says no version.
    pub fn lay_out_as(&self, module: &str, version: &str, to: &Path) -> Result<(), Failure> {
        copy_folder(&self.packages.join(module), to)?;
        let manifest = to.join("module.toml");
        let text = fs::read_to_string(&manifest)?;
        let Some(line) = text.lines().find(|it| it.starts_with("version = ")) else {
            return Err(format!("{} says no version", manifest.display()).into());
        };
        fs::write(&manifest, text.replacen(line, &format!("version = \"{version}\""), 1))?;
        Ok(())
    }

    /// The same with a `mortised` that can be asked for faults, in a folder of its own; that of MORTISE_ARTIFACTS is to be one.
    ///
    /// # Errors
    /// Something did not build.
    pub fn build_with_failpoints(profile: Profile) -> Result<Self, Failure> {
        let Self { programs, packages } = Self::build(profile)?;
        if std::env::var_os("MORTISE_ARTIFACTS").is_some() {
            return Ok(Self { programs, packages });
        }
        let with = programs.join("failpoints");
        // Of the whole workspace, as everything else is built: its dependencies are the same then.
        let mortised = ["build", "--workspace", "--exclude", INIT, "--bin", "mortised", "--profile", profile.name()];
        run(cargo().args(mortised).args(["--features", "mortise-supervisor/failpoints"]))?;
        fs::create_dir_all(&with)?;
        for name in ["mortised", "mortise", INIT] {
            copy(&programs.join(name), &with.join(name), 0o755)?;
        }
        // What others look for in its place is the one without.
        run(cargo().args(mortised))?;
        Ok(Self { programs: with, packages })
    }
}

/// Every worker begins as it.
const INIT: &str = "mortise-init";

/// Builds every program of the workspace.
///
/// # Errors
/// Something did not build.
pub fn build_programs(profile: Profile) -> Result<(), Failure> {
    run(cargo().args(["build", "--workspace", "--exclude", INIT, "--bins", "--profile", profile.name()]))?;
    build_init(profile)
}

/// Builds `mortise-init`, statically linked: a dynamic loader would be paid for at each start of a worker.
///
/// # Errors
/// It did not build.
pub fn build_init(profile: Profile) -> Result<(), Failure> {
    let mut link = cargo();
    link.args(["rustc", "-p", INIT, "--bin", INIT, "--profile", profile.name()]);
    run(link.args(["--", "-C", "target-feature=+crt-static"]))
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |it| root().join(it))
}

fn lay_out(module: &Module, programs: &Path, to: &Path) -> Result<(), Failure> {
    let from = root().join(module.folder);
    fs::create_dir_all(to.join("bin"))?;
    for file in module.files.iter().copied().chain(["module.toml"]) {
        copy(&from.join(file), &to.join(file), 0o644)?;
    }
    match module.program {
        Some(program) => copy(&programs.join(program), &to.join("bin").join(program), 0o755),
        None => Ok(fs::remove_dir(to.join("bin"))?),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    fs::copy(from, to).map_err(|e| format!("{} → {}: {e}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}
