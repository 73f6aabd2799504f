//! `cargo xtask dist`: the Debian package, laid out and packed by dpkg-deb itself.
//!
//! ```text
//!   artifacts (programs, base) ─┐
//!   dist/* ────────────────────┼─▶ folder ──dpkg-deb──▶ target/dist/mortise_VERSION_ARCH.deb
//!   mortise man, completions ───┘
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::command::{debian, output, root, run};

/// Build the Debian package.
#[derive(Args, Debug)]
pub struct Dist {
    /// How to build
    #[arg(long, value_enum, default_value_t = Profile::Dist)]
    profile: Profile,
}

const UNITS: &[&str] = &[
    "mortise.target",
    "mortised.service",
    "mortise-workers.service",
    "mortise-drain.service",
    "mortise-ingress.socket",
    "mortise-admin.socket",
];

/// Users and folders, as systemd makes them.
const GROUND: &[&str] = &["sysusers.d/mortise.conf", "tmpfiles.d/mortise.conf"];

/// Those of a user's own systemd.
const USER_UNITS: &[&str] = &["mortise.target", "mortised.service", "mortise-workers.service", "mortise-drain.service"];

/// What an operator edits, and what dpkg therefore keeps.
const SETTINGS: &str = "etc/mortise/mortise.toml";

const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Which shell looks for its completions where.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/mortise"),
    ("zsh", "usr/share/zsh/vendor-completions/_mortise"),
    ("fish", "usr/share/fish/vendor_completions.d/mortise.fish"),
];

impl Dist {
    /// Builds it and prints where it is.
    ///
    /// # Errors
    /// Something did not build.
    pub fn run(self) -> Result<(), Failure> {
        let package = package(&Artifacts::build(self.profile)?)?;
        println!("{}", package.display());
        Ok(())
    }
}

/// Makes the package out of what was built.
pub fn package(artifacts: &Artifacts) -> Result<PathBuf, Failure> {
    debian("dpkg-deb", "dpkg")?;
    debian("strip", "binutils")?;
    let version = env!("CARGO_PKG_VERSION");
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let scratch = tempfile::tempdir()?;
    let tree = scratch.path().join("tree");
    lay_out(artifacts, &tree)?;
    let size = output(Command::new("du").arg("-sk").arg(&tree))?;
    let control = fs::read_to_string(root().join("dist/deb/control"))?
        .replace("VERSION", version)
        .replace("ARCHITECTURE", &architecture)
        .replace("INSTALLED_KIB", size.split_whitespace().next().unwrap_or("0"));
    put(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        put(&tree.join("DEBIAN").join(script), &fs::read(root().join("dist/deb").join(script))?, 0o755)?;
    }
    put(&tree.join("DEBIAN/conffiles"), format!("/{SETTINGS}\n").as_bytes(), 0o644)?;
    let folder = artifacts.programs.join("deb");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("mortise_{version}_{architecture}.deb"));
    output(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&file))?;
    Ok(file)
}

fn lay_out(artifacts: &Artifacts, tree: &Path) -> Result<(), Failure> {
    let libexec = tree.join("usr/lib/mortise");
    let base = libexec.join("base");
    for (program, to) in [
        ("mortise", tree.join("usr/bin")),
        ("mortised", libexec.clone()),
        ("mortise-init", libexec),
        ("mortise-base", base.join("bin")),
    ] {
        fs::create_dir_all(&to)?;
        let to = to.join(program);
        run(Command::new("strip").arg("-o").arg(&to).arg(artifacts.programs.join(program)))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    put(&base.join("module.toml"), &fs::read(artifacts.packages.join("base/module.toml"))?, 0o644)?;
    for unit in UNITS {
        let unit_file = fs::read(root().join("dist/systemd").join(unit))?;
        put(&tree.join("usr/lib/systemd/system").join(unit), &unit_file, 0o644)?;
    }
    for file in GROUND {
        put(&tree.join("usr/lib").join(file), &fs::read(root().join("dist").join(file))?, 0o644)?;
    }
    for unit in USER_UNITS {
        let unit_file = fs::read(root().join("dist/systemd/user").join(unit))?;
        put(&tree.join("usr/lib/systemd/user").join(unit), &unit_file, 0o644)?;
    }
    put(&tree.join(SETTINGS), &fs::read(root().join("dist/etc/mortise.toml"))?, 0o644)?;
    fs::create_dir_all(tree.join(format!("{SETTINGS}.d")))?;
    let mortise = artifacts.programs.join("mortise");
    for (shell, path) in COMPLETIONS {
        put(&tree.join(path), output(Command::new(&mortise).args(["completions", shell]))?.as_bytes(), 0o644)?;
    }
    let pages = tree.join("usr/share/man");
    fs::create_dir_all(&pages)?;
    run(Command::new(&mortise).arg("man").arg(&pages))?;
    let documents = tree.join("usr/share/doc/mortise");
    for (from, to) in [
        ("README.md", "README.md"),
        ("CHANGELOG.md", "CHANGELOG.md"),
        ("docs/operations.md", "operations.md"),
        ("docs/cli.md", "cli.md"),
        ("LICENSE-MIT", "LICENSE-MIT"),
        ("LICENSE-APACHE", "LICENSE-APACHE"),
    ] {
        put(&documents.join(to), &fs::read(root().join(from))?, 0o644)?;
    }
    put(
        &documents.join("copyright"),
        b"Mortise is licensed under MIT OR Apache-2.0: see LICENSE-MIT, LICENSE-APACHE.\n",
        0o644,
    )
}

fn put(to: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, content).map_err(|e| format!("{}: {e}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}
