//! The module `unruly`: misbehaves when it is asked to.
#![allow(unsafe_code, reason = "a fork bomb forks")]

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use module_runtime::{StateWriter, Worker};
use mortise_test_modules::{Echo, Refused, Unruly, UnrulyServer, View};

struct Module {
    version: String,
    kept: Mutex<Vec<Vec<u8>>>,
    echoes: Arc<AtomicU64>,
    /// Of so many echoes one fails.
    fails_every: Option<u64>,
}

impl Unruly for Module {
    fn echo(&self, text: String) -> Result<Echo, Refused> {
        let number = self.echoes.fetch_add(1, Relaxed);
        if self.fails_every.is_some_and(|it| number.is_multiple_of(it)) {
            return Err(Refused { why: "this version fails now and then".to_owned() });
        }
        Ok(Echo { text, version: self.version.clone() })
    }

    async fn rest(&self, millis: u64) -> Result<u64, Refused> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    fn allocate(&self, bytes: u64) -> Result<u64, Refused> {
        let bytes = usize::try_from(bytes).map_err(|e| Refused { why: e.to_string() })?;
        let mut kept = self.kept.lock().map_err(|e| Refused { why: e.to_string() })?;
        // In pieces, so that it is the kernel's limit that ends it and not an allocation that cannot be had at all.
        for _ in 0..bytes.div_ceil(1 << 20) {
            kept.push(vec![1; 1 << 20]);
        }
        Ok(kept.len() as u64)
    }

    fn spin(&self, millis: u64) -> Result<(), Refused> {
        std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_millis(millis);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        });
        Ok(())
    }

    fn fork_bomb(&self) -> Result<u64, Refused> {
        let mut children = Vec::new();
        loop {
            // SAFETY: the child calls nothing but pause and _exit, which are safe after a fork of a threaded process.
            match unsafe { nix::unistd::fork() } {
                Ok(nix::unistd::ForkResult::Child) => {
                    nix::unistd::pause();
                    // SAFETY: ends this process at once, without running anything of its parent's.
                    unsafe { libc::_exit(0) }
                }
                Ok(nix::unistd::ForkResult::Parent { child }) => children.push(child),
                Err(_) => break,
            }
        }
        for child in &children {
            let _ = nix::sys::signal::kill(*child, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(*child, None);
        }
        Ok(children.len() as u64)
    }

    fn crash(&self, status: i32) -> Result<(), Refused> {
        eprintln!("crashing with status {status}, as asked");
        std::process::exit(status)
    }

    fn chatter(&self, lines: u64) -> Result<(), Refused> {
        for line in 0..lines {
            println!("line {line} of {lines}");
        }
        Ok(())
    }

    fn view(&self) -> Result<View, Refused> {
        let names = |folder: &str| -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|it| it.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let telling = ["CapEff", "CapBnd", "CapAmb", "CapPrm", "NoNewPrivs", "Seccomp:"];
        let likely = ["/", "/module", "/usr", "/etc", "/tmp", "/dev", "/run", "/run/mortise", "/sys", "/var", "/home"];
        let writable = |folder: &str| {
            let probe = format!("{}/probe", folder.trim_end_matches('/'));
            let made = fs::write(&probe, "x").is_ok();
            let _ = fs::remove_file(&probe);
            made
        };
        Ok(View {
            uid: nix::unistd::getuid().as_raw(),
            pid: std::process::id(),
            status: status
                .lines()
                .filter(|line| telling.iter().any(|it| line.starts_with(it)))
                .map(str::to_owned)
                .collect(),
            processes: names("/proc").into_iter().filter(|it| it.bytes().all(|b| b.is_ascii_digit())).collect(),
            root: names("/"),
            interfaces: fs::read_to_string("/proc/net/dev")
                .unwrap_or_default()
                .lines()
                .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
                .collect(),
            environment: std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect(),
            descriptors: names("/proc/self/fd")
                .into_iter()
                .map(|fd| {
                    let what = fs::read_link(format!("/proc/self/fd/{fd}"));
                    format!("{fd} {}", what.map(|it| it.display().to_string()).unwrap_or_default())
                })
                .collect(),
            writable: likely.iter().filter(|it| writable(it)).map(|it| (*it).to_owned()).collect(),
        })
    }

    fn refuse(&self, why: String) -> Result<(), Refused> {
        Err(Refused { why })
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    match worker.configuration("never-ready") {
        None => {}
        Some("hang") => std::future::pending().await,
        Some(_) => return Err(module_runtime::Error::other("it was told never to be ready")),
    }
    let fails_every = worker.configuration("fails-every").and_then(|it| it.parse().ok());
    let (kept, echoes) = (Mutex::default(), Arc::<AtomicU64>::default());
    let (exported, imported) = (Arc::clone(&echoes), Arc::clone(&echoes));
    let hands_over = worker.configuration("hands-over").is_some();
    let module = Module { version: worker.version().to_string(), kept, echoes, fails_every };
    let mut serving = worker.serve(UnrulyServer::new(module));
    if hands_over {
        let export = move |to: &mut StateWriter| to.write_all(&exported.load(Relaxed).to_le_bytes());
        let import = move |_, state: &[u8]| {
            let count = state.try_into().map_err(|_| "no eight bytes")?;
            imported.store(u64::from_le_bytes(count), Relaxed);
            Ok::<(), &str>(())
        };
        serving = serving.export_state(1, export).import_state(import);
    }
    serving.run().await
}
