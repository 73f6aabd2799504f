//! `cargo xtask demo`: the whole house, on real documents, until Ctrl-C.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::command::{debian, output, root};
use xtask::daemon::{Daemon, Options};
use xtask::tour;

/// The folder of the demo, in the checkout.
const FOLDER: &str = ".demo";

/// The longest path below the run folder is `run/workers/SLOT.GEN/control.sock`; a socket's path has at most 107 bytes.
const FOLDER_MOST: usize = 60;

/// Start a supervisor, a base and the example modules, and stay until Ctrl-C.
#[derive(Args)]
pub struct Demo {
    /// Run README.md's tour, compare every answer, stop
    #[arg(long)]
    once: bool,
    /// The ingress's port on 127.0.0.1
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// How to build
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

impl Demo {
    pub fn run(self) -> Result<(), Failure> {
        // Blocked before any thread is made, so that Ctrl-C is waited for and not died of. Children get their own mask.
        let mut stop = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            stop.add(signal);
        }
        debian("curl", "curl")?;
        debian("python3", "python3-minimal")?;
        let listen = self.listen()?;
        println!("building …");
        let artifacts = Artifacts::build(self.profile)?;
        let folder = folder()?;
        let degraded = degraded(&artifacts)?;
        clear_away(&artifacts, &folder, &degraded)?;
        stop.thread_block()?;
        let daemon = Daemon::start(
            &artifacts,
            Options {
                folder: folder.clone(),
                listen,
                base: Some(artifacts.packages.join("base")),
                allow_degraded: degraded,
                more: Vec::new(),
            },
        )?;
        deploy(&daemon, &artifacts)?;
        let ingress = daemon.ingress()?;
        let result = if self.once {
            let text = fs::read_to_string(root().join("README.md"))?;
            tour::run(&tour::read(&text, "The tour")?, &artifacts.programs, &daemon.socket(), ingress)
        } else {
            invite(&daemon, &artifacts, ingress)?;
            let signal = stop.wait()?;
            println!("\n{signal}: stopping");
            Ok(())
        };
        daemon.stop()?;
        if result.is_ok() {
            fs::remove_dir_all(&folder)?;
        } else {
            println!("the log is kept: {}", folder.join("mortised.log").display());
        }
        result
    }

    /// The address; a port that is taken is named, unless the tour is run, which goes to any.
    fn listen(&self) -> Result<SocketAddr, Failure> {
        let wanted = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port);
        match TcpListener::bind(wanted) {
            Ok(_) => Ok(wanted),
            Err(_) if self.once => Ok(SocketAddr::new(wanted.ip(), 0)),
            Err(e) => {
                Err(format!("--port {}: {e}; take another one, like --port {}", self.port, self.port.wrapping_add(1))
                    .into())
            }
        }
    }
}

/// The demo's folder: in the checkout, or, where that is too deep for a socket's path, in the folder for temporary files.
fn folder() -> Result<PathBuf, Failure> {
    let here = root().join(FOLDER);
    if here.as_os_str().len() <= FOLDER_MOST {
        return Ok(here);
    }
    let elsewhere = std::env::temp_dir().join(format!("mortise-demo-{}", nix::unistd::geteuid()));
    println!(
        "{} is too deep for the path of a socket; the demo's files are in {}",
        here.display(),
        elsewhere.display()
    );
    if elsewhere.as_os_str().len() > FOLDER_MOST {
        return Err(format!("{} is too deep as well; set TMPDIR to a short path", elsewhere.display()).into());
    }
    Ok(elsewhere)
}

/// The promises that this host cannot keep, printed. As root on a complete host there is none.
fn degraded(artifacts: &Artifacts) -> Result<Vec<String>, Failure> {
    let mut doctor = std::process::Command::new(artifacts.programs.join("mortise"));
    doctor.args(["doctor", "--json", "--host-only"]);
    // `doctor` ends with a status of its own where something is wrong; what it prints is the same.
    let text = doctor.output()?.stdout;
    let report: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| format!("mortise doctor: {e}: {}", String::from_utf8_lossy(&text)))?;
    let mut names = Vec::new();
    for promise in report["promises"].as_array().into_iter().flatten() {
        if promise["kept"].as_bool() == Some(false) {
            let word = |key: &str| promise[key].as_str().unwrap_or_default().to_owned();
            println!("not kept here: {}: {} ({})", word("name"), word("why"), word("remedy"));
            // The supervisor starts without the others, and says so itself.
            if promise["required"].as_bool() == Some(true) {
                names.push(word("name"));
            }
        }
    }
    Ok(names)
}

/// A demo that was killed may have left workers: its successor stops them in order, then its files go.
fn clear_away(artifacts: &Artifacts, folder: &Path, degraded: &[String]) -> Result<(), Failure> {
    if folder.join("state").exists() {
        println!("clearing away what an earlier demo left in {}", folder.display());
        let options = Options {
            folder: folder.to_owned(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            base: None,
            allow_degraded: degraded.to_vec(),
            more: Vec::new(),
        };
        Daemon::start(artifacts, options)?.stop()?;
    }
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", folder.display()).into()),
        _ => Ok(()),
    }
}

/// Installs, starts and publishes the example modules.
fn deploy(daemon: &Daemon, artifacts: &Artifacts) -> Result<(), Failure> {
    for (folder, module, publish) in [
        ("dictionary", "dictionary", false),
        ("markdown-1", "markdown", true),
        ("spell", "spell", true),
        ("site", "site", true),
        ("legacy", "legacy", true),
    ] {
        let package = artifacts.packages.join(folder);
        output(daemon.mortise(["install"]).arg(&package))?;
        daemon.ask(["start", module])?;
        if publish {
            daemon.ask(["publish", module])?;
        }
        println!("{module}: installed, started{}", if publish { ", published" } else { "" });
    }
    Ok(())
}

fn invite(daemon: &Daemon, artifacts: &Artifacts, ingress: SocketAddr) -> Result<(), Failure> {
    let env = daemon.folder().join("env");
    let text = format!(
        "export PATH={:?}:\"$PATH\"\nexport MORTISE_SOCKET={:?}\n",
        artifacts.programs.display().to_string(),
        daemon.socket().display().to_string()
    );
    fs::write(&env, text)?;
    let package = |name: &str| artifacts.packages.join(name).display().to_string();
    println!(
        "
Mortise is running: the ingress on http://{ingress}, the log in {log}.

In another terminal, in this folder:

  . {env}                                                  # `mortise` on the path, speaking to this supervisor
  mortise ps
  curl -s --data-binary @README.md http://{ingress}/site/check       # this document, misspellings marked
  mortise call spell.suggest '{{\"word\": \"isolasion\", \"most\": 3}}'
  curl -s -d 'name=you&text=hello' http://{ingress}/guestbook        # a Python program that has never heard of Mortise
  mortise install {markdown_2} && mortise swap markdown@2.0.0
  mortise top

README.md has the whole tour. Ctrl-C stops everything.",
        log = daemon.folder().join("mortised.log").display(),
        env = env.display(),
        markdown_2 = package("markdown-2"),
    );
    Ok(())
}
