//! `mortise` as a process: exit codes, what goes to which stream, and the shapes of its JSON.

mod fake;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fake::Fake;
use mortise_supervisor::api::{ErrorCode, OperationId};
use serde_json::{Value, json};

struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn mortise(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mortise"));
    command.args(words).env("MORTISE_SOCKET", socket).env_remove("MORTISE_TENANT").stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |it| String::from_utf8(it).unwrap();
    Said { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn say(fake: &Fake, words: &[&str]) -> Said {
    ended(&mut mortise(&fake.socket, words))
}

#[test]
fn a_wrong_command_line_is_2_and_nobody_there_is_3() {
    let nobody = Path::new("/nonexistent/admin.sock");
    for wrong in [
        &[][..],
        &["explode"],
        &["swap", "spell"],
        &["start", "Spell"],
        &["call", "spell"],
        &["call", "spell.suggest", "{"],
        &["call", "spell.suggest", "[1]"],
        &["ps", "--timeout", "5"],
        &["operation", "a/b"],
    ] {
        let said = ended(&mut mortise(nobody, wrong));
        assert_eq!(said.status, 2, "{wrong:?}: {}", said.err);
        assert_eq!(said.out, "", "{wrong:?}");
        assert!(!said.err.is_empty(), "{wrong:?}");
    }
    for unreachable in [&["ps"][..], &["start", "spell"], &["top", "--once"], &["events", "-f"], &["call", "a.b"]] {
        let said = ended(&mut mortise(nobody, unreachable));
        assert_eq!((said.status, said.out.as_str()), (3, ""), "{unreachable:?}: {}", said.err);
        assert!(said.err.contains("/nonexistent/admin.sock") && said.err.contains("remedy: "), "{}", said.err);
    }
}

#[test]
fn errors_say_what_whose_and_what_to_do_and_guess_what_was_meant() {
    let fake = Fake::start();
    let said = say(&fake, &["start", "spel"]);
    assert_eq!(
        (said.status, said.out.as_str(), said.err.as_str()),
        (
            i32::from(ErrorCode::NotFound.exit_code()),
            "",
            "error: the tenant default has no module spel\nfault: of this command\n\
             remedy: Did you mean `spell`? `mortise ps` lists them.\n"
        )
    );
    assert!(!say(&fake, &["status", "postgres"]).err.contains("Did you mean"));
    assert!(say(&fake, &["logs", "brokn"]).err.contains("Did you mean `broken`?"));
    let program: Value = serde_json::from_str(&say(&fake, &["--json", "start", "spel"]).err).unwrap();
    assert_eq!((&program["code"], &program["blame"]), (&json!("not-found"), &json!("caller")));
    let conflict = say(&fake, &["swap", "spell@1.0.0"]);
    assert_eq!(conflict.status, i32::from(ErrorCode::Conflict.exit_code()), "{}", conflict.err);
}

#[test]
fn an_operation_is_waited_for_and_its_failure_is_1() {
    let fake = Fake::start();
    assert_eq!(say(&fake, &["start", "spell"]).out, "started spell\n");
    assert_eq!(say(&fake, &["start", "spell@1.1"]).out, "started spell@1.1.0\n");
    assert_eq!(say(&fake, &["publish", "spell", "spell"]).out, "published the service spell of spell\n");
    let done = say(&fake, &["--json", "swap", "spell@1.1.0"]).json();
    assert_eq!((&done["state"], &done["request"]["kind"]), (&json!("done"), &json!("swap")));
    assert_eq!(say(&fake, &["rollback", "spell"]).out, "rolled spell back\n");
    assert_eq!(say(&fake, &["discard", "spell"]).out, "ended what was kept or ran beside of spell\n");
    let beside = say(&fake, &["--json", "start", "spell@1.1.0", "--beside"]).json();
    assert_eq!(beside["request"]["kind"], "start-beside");
    assert!(say(&fake, &["start", "spell", "--beside"]).err.contains("mortise start spell@VERSION --beside"));
    assert_eq!(say(&fake, &["scale", "spell", "3"]).out, "scaled spell to 3 workers\n");
    assert_eq!(say(&fake, &["scale", "spell", "default"]).out, "scaled spell to what its module.toml says\n");
    assert!(say(&fake, &["scale", "spell", "many"]).err.contains("neither a number nor `default`"));
    let kept = say(&fake, &["--json", "swap", "spell@1.1.0", "--keep", "90s"]).json();
    assert_eq!(kept["request"]["keep_ms"], 90_000);
    let failed = say(&fake, &["start", "broken"]);
    assert_eq!((failed.status, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(
        failed.err.contains("ended with status 3") && failed.err.contains("fault: of the module"),
        "{}",
        failed.err
    );
    let failed = say(&fake, &["--json", "start", "broken"]);
    let operation: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(
        (failed.status, &operation["state"], &operation["error"]["code"]),
        (1, &json!("failed"), &json!("failed"))
    );
}

#[test]
fn what_takes_too_long_is_11_and_goes_on() {
    let fake = Fake::start();
    let late = say(&fake, &["--timeout", "20ms", "start", "stuck"]);
    assert_eq!((late.status, late.out.as_str()), (i32::from(ErrorCode::Deadline.exit_code()), ""), "{}", late.err);
    let id = late.err.split('`').nth(1).unwrap().trim_start_matches("mortise operation ").to_owned();
    let asked = say(&fake, &["operation", &id, "--no-wait", "--json"]).json();
    assert_eq!(asked["state"], "running");
    fake.release(&OperationId(id.clone()));
    assert_eq!(say(&fake, &["operation", &id]).out, "started stuck\n");
    let accepted = say(&fake, &["--no-wait", "start", "stuck"]);
    assert_eq!(accepted.status, 0);
    assert!(accepted.out.starts_with("starting stuck: accepted; `mortise operation op-"), "{}", accepted.out);
    let listed = say(&fake, &["operation"]).out;
    assert!(listed.lines().any(|it| it.starts_with(&id) && it.contains("done")), "{listed}");
}

#[test]
fn a_supervisor_that_restarts_is_waited_for() {
    let mut fake = Fake::start();
    let mut waiting = mortise(&fake.socket, &["start", "stuck"]).stdout(Stdio::piped()).spawn().unwrap();
    let id = loop {
        let operations = fake.handle.state().operations.clone();
        if let Some(it) = operations.first() {
            break it.id.clone();
        }
        std::thread::yield_now();
    };
    fake.die_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\"");
    fake.serve();
    fake.release(&id);
    assert!(waiting.wait().unwrap().success());
    let mut out = String::new();
    waiting.stdout.unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "started stuck\n");
}

#[test]
fn a_receipt_is_printed() {
    let fake = Fake::start();
    let said = say(&fake, &["uninstall", "spell"]);
    assert!(said.out.starts_with("uninstalled spell\n"), "{}", said.out);
    for line in
        ["processes left       0", "cgroups removed      4", "memory given back    3.0M", "disk given back      5.0M"]
    {
        assert!(said.out.contains(line), "no {line:?} in {}", said.out);
    }
    assert_eq!(say(&fake, &["--json", "uninstall", "spell@1"]).json()["receipt"]["processes_left"], 0);
}

#[test]
fn ps_is_a_table_that_awk_reads() {
    let fake = Fake::start();
    let said = say(&fake, &["ps"]);
    let words: Vec<Vec<&str>> = said.out.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(
        words[0],
        ["MODULE", "VERSION", "WORKER", "STATE", "MEMORY", "CPU", "PIDS", "RESTARTS", "SINCE", "REASON"]
    );
    assert_eq!(words[1][..4], ["broken", "1.0.0", "-", "installed"]);
    assert_eq!(words[2][..8], ["spell", "1.0.0", "0.1", "published", "3.0M/32.0M", "2.5s", "4/16", "2"]);
    assert_eq!(words[3][2..4], ["3.8", "failed"]);
    assert!(
        said.out.contains("killed by the kernel: over its memory limit of 32M"),
        "the reason is whole: {}",
        said.out
    );
    assert!(!said.out.contains('\x1b'), "no colour into a pipe");
    assert!(say(&fake, &["ps", "--color", "always"]).out.contains('\x1b'));

    let rows = say(&fake, &["ps", "--json"]).json();
    assert_eq!(rows[0], json!({"tenant": "default", "module": "broken", "version": "1.0.0", "desired": "installed"}));
    let row = rows[1].as_object().unwrap();
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    let mut expected = [
        "tenant",
        "module",
        "version",
        "desired",
        "worker",
        "state",
        "pid",
        "memory_bytes",
        "memory_limit_bytes",
        "cpu_usec",
        "cpu_limit",
        "pids",
        "pids_limit",
        "restarts",
        "oom_kills",
        "since",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(say(&fake, &["ps", "--tenant", "other"]).out, "no modules; `mortise install FILE|DIR` brings one in\n");
}

#[test]
fn status_tells_about_a_module_and_about_the_supervisor() {
    let fake = Fake::start();
    let one = say(&fake, &["status", "spell"]).out;
    for part in [
        "wanted     running 1.0.0",
        "published",
        "at /spell",
        "killed for memory 1 times",
        "waited for memory 1.5s  ",
        "spell: 100 calls, 10 errors",
        "half of them <8µs, 99 % <524µs",
    ] {
        assert!(one.contains(part), "no {part:?} in {one}");
    }
    let all = say(&fake, &["status"]).out;
    for part in ["mortised", "http://127.0.0.1:8080", "io-weight: no controller", "publishes spell"] {
        assert!(all.contains(part), "no {part:?} in {all}");
    }
    assert_eq!(say(&fake, &["status", "--json"]).json()["host"]["ingress"][0], "http://127.0.0.1:8080");
    assert_eq!(say(&fake, &["status", "spell", "--json"]).json()["module"], "spell");
}

#[test]
fn top_prints_one_frame() {
    let fake = Fake::start();
    let said = say(&fake, &["top", "--once", "--interval", "500ms"]);
    assert!(said.out.starts_with("MODULE  WORKERS  CPU %"), "{}", said.out);
    let spell: Vec<&str> = said.out.lines().find(|it| it.starts_with("spell")).unwrap().split_whitespace().collect();
    assert_eq!(spell[1..5], ["1", "0.0", "6.0M/32.0M", "8"]);
    let frame = say(&fake, &["top", "--once", "--json"]).json();
    assert!(frame["seconds"].as_f64().unwrap() > 0.0, "{frame}");
    assert_eq!(frame["modules"].as_array().unwrap().len(), 3);
    assert_eq!(frame["modules"][0]["calls_per_second"], 0.0);
}

/// A `mortise` that goes on, line by line.
struct Following {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_are_followed_over_a_restart_of_the_supervisor() {
    let mut fake = Fake::start();
    let all = say(&fake, &["events"]).out;
    assert!(all.contains("the supervisor has started") && all.contains("spell: spell is ready"), "{all}");
    let mut following = Following::start(&mut mortise(&fake.socket, &["events", "-f", "--since", "11", "--json"]));
    assert!(following.next().contains("spell is ready"));
    fake.die_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"seq");
    fake.event("while nobody could follow", Some("spell"));
    fake.serve();
    let seen: Value = serde_json::from_str(&following.next()).unwrap();
    assert_eq!((&seen["seq"], &seen["text"]), (&json!(12), &json!("while nobody could follow")));
}

#[test]
fn top_goes_on_over_a_restart_of_the_supervisor() {
    let mut fake = Fake::start();
    let mut following = Following::start(&mut mortise(&fake.socket, &["top", "--json", "--interval", "500ms"]));
    let measured = |line: String| serde_json::from_str::<Value>(&line).unwrap()["at"].clone();
    let before = measured(following.next());
    fake.die_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    fake.serve();
    assert_ne!(measured(following.next()), before);
}

#[test]
fn logs_are_printed_and_followed() {
    let fake = Fake::start();
    for n in 0..3 {
        fake.log("spell", &format!("line {n}"));
    }
    let tail = say(&fake, &["logs", "spell", "-n", "2"]).out;
    assert_eq!(tail.lines().map(|it| it.rsplit_once("out ").unwrap().1).collect::<Vec<_>>(), ["line 1", "line 2"]);
    let mut following = Following::start(&mut mortise(&fake.socket, &["logs", "-f", "spell", "-n", "1"]));
    assert!(following.next().ends_with("line 2"));
    fake.log("spell", "and this");
    assert!(following.next().ends_with("spell@1.0.0 0.1 out and this"));
    let line = say(&fake, &["logs", "spell", "-n", "1", "--json"]).json();
    assert_eq!((&line["text"], &line["stream"]), (&json!("and this"), &json!("stdout")));
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let fake = Fake::start();
    for n in 0..2000 {
        fake.log("spell", &format!("line {n} {}", "x".repeat(200)));
    }
    let mut child = mortise(&fake.socket, &["logs", "spell", "-n", "2000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.stderr, b"");
}

/// A base for one call: reads the request, answers.
fn base(listener: UnixListener, answer: &'static str) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains("\r\n\r\n") || !text.trim_end().ends_with('}') {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "{text}");
            text += std::str::from_utf8(&buffer[..read]).unwrap();
        }
        stream.write_all(answer.as_bytes()).unwrap();
        text
    })
}

#[test]
fn a_call_goes_to_the_base_and_its_answer_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let invoke = folder.path().join("invoke.sock");
    let listener = UnixListener::bind(&invoke).unwrap();
    let fake = Fake::with_base(Some(invoke));
    let answered = base(listener.try_clone().unwrap(), "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n[\"isolation\"]");
    let said = say(&fake, &["call", "spell.suggest", r#"{"word": "isolasion", "most": 1}"#]);
    assert_eq!((said.status, said.out.as_str()), (0, "[\n  \"isolation\"\n]\n"), "{}", said.err);
    let asked = answered.join().unwrap();
    assert!(asked.starts_with("POST /call/spell/suggest HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with(r#"{"word": "isolasion", "most": 1}"#), "{asked}");

    let answer = concat!(
        "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 41\r\n\r\n",
        r#"{"error":"deadline","message":"too late"}"#
    );
    let refused = base(listener.try_clone().unwrap(), answer);
    let said = say(&fake, &["call", "spell.suggest"]);
    assert_eq!(said.status, i32::from(ErrorCode::Deadline.exit_code()), "{}", said.err);
    assert!(said.err.starts_with("error: too late\n"), "{}", said.err);
    assert!(refused.join().unwrap().contains("mortise-timeout-ms: 60000\r\n"));

    let own = base(listener, "HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 11\r\n\r\n{\"Many\": 3}");
    let said = say(&fake, &["call", "spell.suggest"]);
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.starts_with("error: spell.suggest answered with its own error: {\"Many\": 3}\n"), "{}", said.err);
    own.join().unwrap();
}

#[test]
fn somebody_else_is_denied() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let fake = Fake::start();
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(fake.folder(), 0o755);
    open(&fake.socket, 0o666);
    // The program lies in folders that only root may enter. Copied by another process: a descriptor of ours that is open for
    // writing would be inherited by what other tests start meanwhile, and a file that somebody may write cannot be run.
    let program = fake.folder().join("mortise");
    assert!(Command::new("cp").args([Path::new(env!("CARGO_BIN_EXE_mortise")), &program]).status().unwrap().success());
    let said = ended(Command::new(&program).args(["ps"]).env("MORTISE_SOCKET", &fake.socket).uid(65534).gid(65534));
    assert_eq!((said.status, said.out.as_str()), (i32::from(ErrorCode::Denied.exit_code()), ""), "{}", said.err);
    assert!(said.err.contains("uid 65534"), "{}", said.err);
    assert_eq!(say(&fake, &["ps"]).status, 0, "root still gets in");
}

#[test]
fn doctor_works_without_a_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let said = ended(&mut mortise(Path::new("/nonexistent/admin.sock"), &["doctor", "--json", "--state", &state]));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.status == 0, report["sound"] == true, "{}", said.err);
    let promises: Vec<&str> =
        report["promises"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(promises.contains(&"memory-limit") && promises.contains(&"seccomp"), "{promises:?}");
    let checks = report["checks"].as_array().unwrap();
    let of =
        |name: &str| checks.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"));
    assert_eq!(of("supervisor")["verdict"], "weak");
    assert!(of("state-dir")["found"].as_str().unwrap().contains(&state));
    let text = ended(&mut mortise(Path::new("/nonexistent"), &["doctor", "--host-only"])).out;
    assert!(text.contains("Promises\n") && text.contains("memory-limit") && text.contains("Disk\n"), "{text}");
}

/// A module's folder that can be packed.
fn folder(parent: &Path, version: &str) -> std::path::PathBuf {
    let folder = parent.join("clock");
    std::fs::create_dir_all(&folder).unwrap();
    let toml = format!(
        "name = \"clock\"\nversion = \"{version}\"\nruntime = \"http\"\nexec = \"/usr/bin/python3\"\n\
         args = [\"/module/clock.py\"]\nprovides = [{{ service = \"clock\", http = {{}} }}]\n"
    );
    std::fs::write(folder.join("module.toml"), toml).unwrap();
    std::fs::write(folder.join("clock.py"), "print(1)\n").unwrap();
    folder
}

#[test]
fn a_folder_is_checked_packed_and_installed() {
    let fake = Fake::start();
    let place = tempfile::tempdir().unwrap();
    let module = folder(place.path(), "1.2.0");
    let module = module.to_str().unwrap();
    let checked = say(&fake, &["check", module]);
    assert!(checked.out.ends_with("module.toml: clock 1.2.0 is sound\n"), "{}{}", checked.out, checked.err);
    let packed = ended(mortise(&fake.socket, &["pack", module, "--json"]).current_dir(place.path())).json();
    assert_eq!((&packed["module"], &packed["file"]), (&json!("clock"), &json!("clock-1.2.0.mortise")));
    let file = place.path().join("clock-1.2.0.mortise");
    assert_eq!(packed["bytes"], std::fs::metadata(&file).unwrap().len());
    let again = place.path().join("again.mortise");
    let again = say(&fake, &["pack", module, "-o", again.to_str().unwrap(), "--json"]).json();
    assert_eq!(again["digest"], packed["digest"], "the same folder always gives the same package");

    let digest = packed["digest"].as_str().unwrap();
    let installed = say(&fake, &["install", file.to_str().unwrap()]);
    assert_eq!((installed.out, installed.err), (format!("installed clock 1.2.0  sha256 {digest}\n"), String::new()));
    let from_folder = say(&fake, &["install", module, "--json"]).json();
    assert_eq!(from_folder["request"], json!({"kind": "install", "tenant": "default", "digest": digest}));
    assert_eq!(fake.packages.list().unwrap().len(), 1);
}

#[test]
fn a_wrong_module_is_refused_with_every_place() {
    let fake = Fake::start();
    let place = tempfile::tempdir().unwrap();
    let module = folder(place.path(), "one\"\nlimts = {}\nx = \"");
    let module = module.to_str().unwrap();
    for words in [&["check", module][..], &["install", module]] {
        let said = say(&fake, words);
        assert_eq!(said.status, i32::from(ErrorCode::PackageRefused.exit_code()), "{words:?}: {}", said.err);
        for place in ["module.toml:2:", "module.toml:3:", "limts"] {
            assert!(said.err.contains(place), "{words:?}: no {place:?} in {}", said.err);
        }
        assert!(!said.err.contains("error: error:"), "{}", said.err);
    }
    let checked: Value = serde_json::from_str(&say(&fake, &["check", module, "--json"]).out).unwrap();
    assert_eq!((&checked["sound"], &checked["findings"][0]["line"]), (&json!(false), &json!(2)));
    let torn = place.path().join("torn.mortise");
    std::fs::write(&torn, b"this is no package").unwrap();
    let said = say(&fake, &["install", torn.to_str().unwrap()]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (i32::from(ErrorCode::PackageRefused.exit_code()), ""),
        "{}",
        said.err
    );
    assert!(fake.packages.list().unwrap().is_empty(), "it leaves nothing");
    let said = say(&fake, &["install", "/nonexistent.mortise"]);
    assert_eq!(said.status, i32::from(ErrorCode::NotFound.exit_code()), "{}", said.err);
}

#[test]
fn schema_and_completions_are_printed() {
    let nobody = Path::new("/nonexistent");
    assert_eq!(ended(&mut mortise(nobody, &["schema"])).json()["title"], "module.toml");
    for shell in ["bash", "zsh", "fish"] {
        let said = ended(&mut mortise(nobody, &["completions", shell]));
        assert!(said.status == 0 && said.out.contains("unpublish"), "{shell}: {}", said.err);
    }
}
