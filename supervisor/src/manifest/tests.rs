//! What is accepted, what is refused, and that what is refused is refused with its place and a way out.

use std::time::Duration;

use super::*;

const LEAST: &str = "name = \"spell\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/spell\"\n";

const FULL: &str = r#"
name = "site"
version = "2.1.0-rc.1"
runtime = "http"
listen = "port"
exec = "/usr/bin/python3"
args = ["server.py", "--quiet"]
files = ["server.py", "static/"]
instances = 3

[[provides]]
service = "site"
http = { prefix = "/site", host = "example.org" }

[[provides]]
service = "site-admin"
http = { prefix = "/admin" }

[requires]
services = ["spell", "markdown"]
resources = ["words"]

[[resources]]
name = "words"
file = "data/words.txt"

[limits]
memory = "64M"
swap = "0"
cpu = 0.5
pids = 32
io_weight = 100
open_files = 256

[env]
LANG = "C.UTF-8"

[configuration]
greeting = "hello"
retries = 3
ratio = 0.5
strict = true

[health]
interval = "5s"
timeout = "1s"
failures = 3
path = "/healthz"

[timeouts]
start = "10s"
drain = "1m 30s"
stop = "500ms"

[restart]
policy = "on-failure"
backoff = "50ms"
backoff_max = "1s"
crashes = 4
stable = "20s"

[swap]
keep = "10m"
gates = { memory = "1.5x", restarts = "+1" }
"#;

fn refused(text: &str) -> Report {
    Manifest::parse(text, "module.toml").expect_err(text)
}

/// The findings as `line:column key message`.
fn lines(text: &str) -> Vec<String> {
    let findings = refused(text).findings;
    findings.iter().map(|it| format!("{}:{} {} | {}", it.line, it.column, it.key, it.message)).collect()
}

fn with(extra: &str) -> String {
    format!("{LEAST}{extra}")
}

#[test]
fn the_least_module_has_every_default() {
    let manifest = Manifest::parse(LEAST, "module.toml").unwrap();
    assert_eq!(manifest.name.as_str(), "spell");
    assert_eq!(manifest.limits, Limits::default());
    assert_eq!(manifest.restart, Restart::default());
    assert_eq!(manifest.instances, 1);
    assert_eq!(manifest.health, None);
    assert_eq!(manifest.program().unwrap().exec, Exec::Package(PackagePath::new("bin/spell").unwrap()));
}

#[test]
fn every_key_arrives() {
    let manifest = Manifest::parse(FULL, "module.toml").unwrap_or_else(|report| panic!("{report}"));
    assert!(matches!(&manifest.runtime, Runtime::Http(Program { exec: Exec::Host(path), args }, Listen::Port)
        if path.to_str() == Some("/usr/bin/python3") && args.len() == 2));
    assert_eq!(manifest.provides[0].http.as_ref().unwrap().host.as_deref(), Some("example.org"));
    assert_eq!(manifest.limits.memory, 64 << 20);
    assert_eq!(manifest.configuration["ratio"], "0.5");
    assert_eq!(manifest.configuration["strict"], "true");
    assert_eq!(manifest.timeouts.drain, Duration::from_secs(90));
    assert_eq!(manifest.restart.policy, RestartPolicy::OnFailure);
    assert_eq!(manifest.files.unwrap()[1].as_str(), "static");
}

#[test]
fn nobody_counts_the_calls_of_a_program_without_the_sdk() {
    let text = FULL.replace("memory = \"1.5x\", ", "error_rate = \"1%\", ");
    assert!(lines(&text)[0].contains("swap.gates.error_rate"), "{:?}", lines(&text));
}

#[test]
fn a_base_is_not_kept() {
    let text = "name = \"b\"\nversion = \"1.0.0\"\nruntime = \"base\"\nexec = \"b\"\n[swap]\nkeep = \"1m\"\n";
    assert!(lines(text)[0].contains("swap.keep"), "{:?}", lines(text));
}

#[test]
fn a_resource_module_has_no_program() {
    let head = "name = \"words\"\nversion = \"1.0.0\"\nruntime = \"resource\"\n";
    let manifest =
        Manifest::parse(&format!("{head}[[resources]]\nname = \"words\"\nfile = \"words.txt\"\n"), "m").unwrap();
    assert_eq!((manifest.instances, manifest.program()), (0, None));
    assert_eq!(lines(head).len(), 1);
    let faults = lines(&format!("{head}exec = \"a\"\n[limits]\npids = 4\n[[resources]]\nname = \"w\"\nfile = \"w\"\n"));
    assert_eq!(faults.len(), 2, "{faults:?}");
}

/// A module.toml of every kind, and what lifecycle makes of it.
#[test]
fn every_kind_of_runtime_has_its_spec() {
    use crate::lifecycle::{self, ModuleSpec};
    let spec = |text: &str| {
        ModuleSpec::from(&Manifest::parse(text, "module.toml").unwrap_or_else(|report| panic!("{text}\n{report}")))
    };
    let sdk = spec(
        "name = \"spell\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/spell\"\n[[provides]]\nservice = \"spell\"\n[requires]\nresources = [\"words\"]\n",
    );
    assert_eq!((sdk.runtime, sdk.crash_limit, sdk.instances), (lifecycle::Runtime::Sdk, Some(8), 1));
    assert_eq!(sdk.backoff, lifecycle::Backoff::default());
    assert_eq!((sdk.maps[0].as_str(), &sdk.provides[0].http), ("words", &None));

    let http = spec(FULL);
    assert_eq!((&http.runtime, http.instances, http.crash_limit), (&lifecycle::Runtime::Http, 3, Some(4)));
    assert_eq!(http.provides[0].http.as_ref().unwrap().prefix, "/site");
    assert_eq!(http.restart, lifecycle::RestartPolicy::OnFailure);
    assert_eq!(http.backoff.stable_after, Duration::from_secs(20));
    assert_eq!(http.keep, Duration::from_secs(600));
    assert_eq!(http.gates.iter().map(ToString::to_string).collect::<Vec<_>>(), ["memory=1.5x", "restarts=+1"]);
    assert_eq!(http.health.unwrap().failures, 3);
    assert_eq!(http.limits.memory_bytes, Some(64 << 20));

    let base = spec(
        "name = \"base\"\nversion = \"1.0.0\"\nruntime = \"base\"\nexec = \"bin/mortise-base\"\n[[provides]]\nservice = \"kv\"\n[requires]\nservices = [\"spell\"]\n",
    );
    assert_eq!((base.runtime, base.requires[0].as_str()), (lifecycle::Runtime::Base, "spell"));

    let words = spec(
        "name = \"words\"\nversion = \"1.0.0\"\nruntime = \"resource\"\n[[resources]]\nname = \"words\"\nfile = \"words.fst\"\n",
    );
    assert_eq!(words.resources()[0].as_str(), "words");
    assert_eq!(words.instances, 1);

    for word in ["base", "sdk", "http", "resource"] {
        assert!(json_schema().to_string().contains(&format!("\"{word}\"")), "{word} is missing in the schema");
    }
    let listens = LEAST.replace("\"sdk\"", "\"base\"") + "listen = \"port\"\n";
    assert_eq!(lines(&listens).len(), 1, "a base gets its listeners from the supervisor");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = "nmae = \"x\"\nversion = \"1\"\nruntime = \"sdk\"\nexec = 7\n[limits]\nmemroy = \"1M\"\npids = \"many\"\ncpu = 0\n";
    assert_eq!(
        lines(text),
        [
            "1:1 name | the key `name` is missing",
            "1:1 nmae | unknown key \"nmae\"; did you mean `name`?",
            "2:11 version | `version` = \"1\" is not a version: unexpected end of input while parsing major version number",
            "4:8 exec | `exec` is the integer 7",
            "6:1 limits.memroy | unknown key \"memroy\" in `limits`; did you mean `memory`?",
            "7:8 limits.pids | `limits.pids` is the string \"many\"",
            "8:7 limits.cpu | `limits.cpu` = 0.0 is out of range",
        ]
    );
}

#[test]
fn it_is_shown_as_rustc_shows_it() {
    let text = with("[limits]\nmemory = \"64 megs\"\n");
    assert_eq!(
        refused(&text).to_string(),
        "error: `limits.memory` = \"64 megs\" is not an amount of bytes
 --> module.toml:6:10
  |
6 | memory = \"64 megs\"
  |          ^^^^^^^^^
  = allowed: 2M to 16T, like \"64M\" (K, M, G, T are powers of 1024)"
    );
}

#[test]
fn names_of_things_are_there_once() {
    let faults = lines(&with("[[provides]]\nservice = \"a\"\n[[provides]]\nservice = \"a\"\n"));
    assert_eq!(
        faults,
        ["8:11 provides[1].service | the service \"a\" is there twice: here and at `provides[0].service`"]
    );
    let faults = lines(&with("[[resources]]\nname = \"a\"\nfile = \"x\"\n[[resources]]\nname = \"a\"\nfile = \"y\"\n"));
    assert!(faults[0].starts_with("9:8 resources[1].name | the resource \"a\" is there twice"), "{faults:?}");
    let faults = lines(&with("[requires]\nservices = [\"b\", \"b\"]\n"));
    assert!(faults[0].starts_with("6:18 requires.services[1] | the service \"b\" is there twice"), "{faults:?}");
    let routes = "[[provides]]\nservice = \"a\"\nhttp = { prefix = \"/x\" }\n[[provides]]\nservice = \"b\"\nhttp = { prefix = \"/x\" }\n";
    assert!(lines(&with(routes))[0].contains("the route \"*/x\" is there twice"));
    assert!(lines(&with("name = \"again\"\n"))[0].contains("duplicate key"));
}

#[test]
fn paths_stay_inside_the_package() {
    for path in
        ["../x", "/etc/passwd", "a/../../x", "a//b", "./x", "", "a\\\\b", "/usr/../etc/x", "/usr/bin/../x", "a\\u0007b"]
    {
        let text = LEAST.replace("bin/spell", path);
        let faults = lines(&text);
        assert!(faults.len() == 1 && faults[0].starts_with("4:8 exec"), "{path}: {faults:?}");
        let faults = lines(&with(&format!("[[resources]]\nname = \"a\"\nfile = \"{path}\"\n")));
        assert!(faults.len() == 1 && faults[0].contains("resources[0].file"), "{path}: {faults:?}");
    }
}

#[test]
fn impossible_values_are_refused() {
    for (extra, key) in [
        ("instances = 0", "instances"),
        ("instances = 65", "instances"),
        ("instances = 99999999999999999999", "instances"),
        ("listen = \"port\"", "listen"),
        ("args = [\"a\\u0000b\"]", "args[0]"),
        ("limits = { cpu = nan }", "limits.cpu"),
        ("limits = { cpu = -1 }", "limits.cpu"),
        ("limits = { cpu = inf }", "limits.cpu"),
        ("limits = { memory = \"1K\" }", "limits.memory"),
        ("limits = { memory = 64 }", "limits.memory"),
        ("limits = { memory = \"99999T\" }", "limits.memory"),
        ("limits = { pids = 1 }", "limits.pids"),
        ("limits = { io_weight = 0 }", "limits.io_weight"),
        ("limits = { cpu_weight = 10001 }", "limits.cpu_weight"),
        ("limits = { memory = \"64M\", memory_high = \"65M\" }", "limits.memory_high"),
        ("limits = { open_files = 3 }", "limits.open_files"),
        ("env = { PORT = \"1\" }", "env.PORT"),
        ("env = { MORTISE_BOOT_FD = \"1\" }", "env.MORTISE_BOOT_FD"),
        ("env = { \"a=b\" = \"1\" }", "env.\"a=b\""),
        ("env = { A = 1 }", "env.A"),
        ("configuration = { \"a b\" = 1 }", "configuration.\"a b\""),
        ("configuration = { a = [1] }", "configuration.a"),
        ("configuration = { a = 2026-01-01 }", "configuration.a"),
        ("health = { interval = \"1s\", timeout = \"2s\" }", "health.timeout"),
        ("health = { failures = 0 }", "health.failures"),
        ("health = { path = \"/healthz\" }", "health.path"),
        ("timeouts = { start = \"5\" }", "timeouts.start"),
        ("timeouts = { drain = \"0s\" }", "timeouts.drain"),
        ("timeouts = { stop = \"2days\" }", "timeouts.stop"),
        ("restart = { policy = \"sometimes\" }", "restart.policy"),
        ("restart = { backoff = \"5s\", backoff_max = \"1s\" }", "restart.backoff_max"),
        ("restart = { crashes = 0 }", "restart.crashes"),
        ("restart = { stable = \"0s\" }", "restart.stable"),
        ("swap = { keep = \"25h\" }", "swap.keep"),
        ("swap = { gates = { p99 = \"fast\" } }", "swap.gates.p99"),
        ("swap = { gates = { restarts = 0 } }", "swap.gates.restarts"),
        ("requires = { services = [\"Not A Name\"] }", "requires.services[0]"),
        ("provides = [{ service = \"a\", http = { prefix = \"x\" } }]", "provides[0].http.prefix"),
        ("provides = [{ service = \"a\", http = { prefix = \"/x/\" } }]", "provides[0].http.prefix"),
        ("provides = [{ service = \"a\", http = { prefix = \"/../x\" } }]", "provides[0].http.prefix"),
        ("provides = [{ service = \"a\", http = { host = \"EXAMPLE.org:80\" } }]", "provides[0].http.host"),
        ("provides = [{ http = { prefix = \"/x\" } }]", "provides[0].service"),
        ("provides = [{ service = \"a\" }]\nrequires = { services = [\"a\"] }", "requires.services[0]"),
        ("provides = 7", "provides"),
        ("provides = [7]", "provides[0]"),
    ] {
        let report = refused(&with(extra));
        let keys: Vec<&str> = report.findings.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, [key], "{extra}\n{report}");
        assert!(report.findings.iter().all(|it| it.line == 5 || it.line == 6), "{report}");
        assert!(report.findings.iter().all(|it| !it.allowed.is_empty()), "{report}");
    }
}

#[test]
fn a_key_at_the_wrong_place_is_sent_home() {
    assert_eq!(
        lines(&with("memory = \"64M\"\n")),
        ["5:1 memory | unknown key \"memory\"; `memory` belongs in `[limits]`"]
    );
}

#[test]
fn syntax_errors_have_a_place() {
    let report = refused("name = \"a\nversion = 1\n");
    assert_eq!((report.findings[0].line, report.findings[0].column), (1, 10), "{report}");
    assert!(!Manifest::parse_bytes(b"name = \"\xff\"", "m").unwrap_err().findings[0].allowed.is_empty());
    assert!(refused(&"#".repeat(300 * 1024)).to_string().contains("at most 262144"));
}

#[test]
fn a_hostile_file_cannot_drive_the_terminal() {
    for text in ["\"\\u001b[2J\" = 1", "name = \"\\u001b]0;x\\u0007\"", "\u{1b}[2J = 1", "name = \"a\u{202e}b\" x"] {
        let shown = refused(text).to_string();
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    }
}

#[test]
fn the_schema_describes_every_key_and_no_null() {
    let schema = json_schema();
    let text = schema.to_string();
    assert!(!text.contains("null"), "{text}");
    assert_eq!(schema["required"], serde_json::json!(["name", "version", "runtime"]));
    assert_eq!(schema["additionalProperties"], false);
    fn described(value: &serde_json::Value, path: &str) {
        for (key, property) in value["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{path}.{key} has no description");
        }
        for (key, inner) in value["$defs"].as_object().into_iter().flatten() {
            described(inner, key);
        }
    }
    described(&schema, "module.toml");
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = Manifest::parse(&text, "m").map_err(|report| report.to_string());
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0..FULL.len(), cut in 0..20usize, junk in "[\\[\\]{}=\"'.a\n\u{1b}\u{e9}-]{0,6}") {
            let end = (at + cut).min(FULL.len());
            let mut text = FULL.to_owned();
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &junk);
            }
            if let Err(report) = Manifest::parse(&text, "m") {
                prop_assert!(!report.findings.is_empty());
                for finding in &report.findings {
                    prop_assert!(finding.line >= 1 && finding.line <= text.lines().count().max(1) + 1);
                    prop_assert!(!finding.message.is_empty() && !finding.allowed.is_empty());
                }
            }
        }
    }
}

#[test]
fn state_is_handed_over_within_what_a_worker_has_and_calls_can_wait_for() {
    let handover = |extra: &str| Manifest::parse(&with(extra), "module.toml").unwrap().handover.unwrap();
    let least = handover("[handover]\nversion = 3\n");
    let (mib, s) = (1 << 20, Duration::from_secs);
    assert_eq!((least.version, least.accepts.into_iter().collect::<Vec<_>>()), (3, vec![3]));
    assert_eq!((least.max_bytes, least.timeout), (16 * mib, s(5)));
    let all = handover("[handover]\nversion = 3\naccepts = [1, 3]\nmax_bytes = \"2M\"\ntimeout = \"60s\"\n");
    assert_eq!((all.accepts.into_iter().collect::<Vec<_>>(), all.max_bytes, all.timeout), (vec![1, 3], 2 * mib, s(60)));
    let small = handover("[limits]\nmemory = \"8M\"\n[handover]\nversion = 0\n");
    assert_eq!(small.max_bytes, 4 * mib, "what it has by default fits into what the worker may use");

    for (extra, message) in [
        ("[handover]\n", "the key `version` is missing in `handover`"),
        ("[handover]\nversion = -1\n", "`handover.version` = -1 is out of range"),
        ("[handover]\nversion = 1\naccepts = []\n", "`handover.accepts` is empty"),
        ("[handover]\nversion = 1\naccepts = [1, -2]\n", "`handover.accepts[1]` = -2 is out of range"),
        (
            "[handover]\nversion = 1\nmax_bytes = \"65M\"\n",
            "`handover.max_bytes` = \"65M\" is more than can be handed over",
        ),
        ("[handover]\nversion = 1\nmax_bytes = \"0\"\n", "`handover.max_bytes` = \"0\" is out of range"),
        (
            "[handover]\nversion = 1\ntimeout = \"61s\"\n",
            "`handover.timeout` = \"1m 1s\" is longer than calls should wait",
        ),
    ] {
        let found = lines(&with(extra)).join("\n");
        assert!(found.contains(message), "{extra}: {found}");
    }
    let http = "[[provides]]\nservice = \"site\"\nhttp = { prefix = \"/\" }\n[handover]\nversion = 1\n";
    assert!(lines(&with(http)).join("\n").contains("whose requests do not wait for it"));
}
