//! The sandbox of a worker as an ordered list of plain steps.
//!
//! A pure function: what the worker is, where its things lie, what the host keeps and what its file system looks like go in, a
//! [`Plan`] comes out. The order is the substance of it:
//!
//! 1. mounts, while we may make them; the host's root is gone after [`Step::EnterRoot`];
//! 2. what belongs to the network and host name namespaces, which stay owned by the namespace outside;
//! 3. the uid, then the user namespace (its map may hold just that uid, so it must be the one we have);
//! 4. capabilities, and only then no_new_privs, landlock and seccomp, each of which takes away what the steps before it needed.

use std::path::{Path, PathBuf};

use mortise_control::plan::{Access, Listen, Plan, Program, ResourceLimit, Run, Serve, Step};
use mortise_control::{BOOT_FD, BOOT_FD_VARIABLE, PROTOCOL, Role};

use super::spec::WorkerSpec;
use crate::host::{Enforcement, Promise};
use crate::manifest::{self, Exec};

/// The size of a worker's root: a skeleton of folders and a few small files.
const ROOT_BYTES: u64 = 1 << 20;
/// Files and folders that fit into a worker's /tmp.
const TMP_INODES: u64 = 16_384;
/// The port of a program that binds one, when the network is its own.
const OWN_PORT: u16 = 8080;

/// Where a worker's things lie on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A folder over which a new root can be mounted.
    pub over: PathBuf,
    /// Its run folder.
    pub run: PathBuf,
    /// `RUN/http`.
    pub http: PathBuf,
    /// The gid that may enter `RUN/http`.
    pub http_gid: u32,
    /// The supervisor's own uid and gid.
    pub own: (u32, u32),
    /// A TCP port that is free on the host, for a program that binds one and has no network of its own.
    pub free_port: u16,
}

/// The parts of the host's file system that a worker sees, looked at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostView {
    /// Top folders with programs and libraries, and where they point if they are links.
    tops: Vec<(&'static str, Option<PathBuf>)>,
    /// Files and folders of /etc that programs need to find libraries and certificates.
    etc: Vec<&'static str>,
    devices: Vec<&'static str>,
}

const TOPS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const ETC: [&str; 8] = [
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
];
const DEVICES: [&str; 5] = ["full", "null", "random", "urandom", "zero"];

impl HostView {
    pub fn look() -> Self {
        let top = |name: &'static str| {
            let path = Path::new("/").join(name);
            let kind = path.symlink_metadata().ok()?.file_type();
            if kind.is_symlink() {
                return Some((name, Some(path.read_link().ok()?)));
            }
            kind.is_dir().then_some((name, None))
        };
        Self {
            tops: TOPS.into_iter().filter_map(top).collect(),
            etc: ETC.into_iter().filter(|it| Path::new("/etc").join(it).exists()).collect(),
            devices: DEVICES.into_iter().filter(|it| Path::new("/dev").join(it).exists()).collect(),
        }
    }
}

/// Where a worker finds its things.
pub(super) struct View {
    pub package: PathBuf,
    pub run: PathBuf,
}

impl View {
    pub fn of(spec: &WorkerSpec, place: &Place, host: &Enforcement) -> Self {
        if host.keeps(Promise::MountNamespace) {
            return Self { package: "/module".into(), run: "/run/mortise".into() };
        }
        Self { package: spec.package.clone(), run: place.run.clone() }
    }
}

/// What init does for this worker.
pub(super) fn plan(spec: &WorkerSpec, place: &Place, host: &Enforcement, seen: &HostView, filter: Vec<u8>) -> Plan {
    let view = View::of(spec, place, host);
    let mut steps = Vec::new();
    if host.keeps(Promise::CgroupNamespace) {
        // Its root is the group that a process is in when it makes one: on v1 that has been joined only just now.
        steps.push(Step::CgroupNamespace);
    }
    if host.keeps(Promise::MountNamespace) {
        root(&mut steps, spec, place, host, seen);
    }
    if host.keeps(Promise::NetNamespace) {
        steps.push(Step::Loopback);
    }
    if host.keeps(Promise::UtsNamespace) {
        steps.push(Step::HostName(spec.module.to_string()));
    }
    steps.push(Step::ResourceLimit { resource: ResourceLimit::OpenFiles, value: spec.limits.open_files.into() });
    steps.push(Step::ResourceLimit { resource: ResourceLimit::Core, value: 0 });
    identity(&mut steps, spec, place, host);
    steps.push(Step::NoNewPrivileges);
    if host.keeps(Promise::Landlock) {
        steps.push(landlock(&view, seen));
    }
    if host.keeps(Promise::Seccomp) {
        steps.push(Step::Seccomp { filter });
    }
    let (program, run) = program(spec, place, host, &view);
    Plan { protocol: PROTOCOL, steps, program, run }
}

fn root(steps: &mut Vec<Step>, spec: &WorkerSpec, place: &Place, host: &Enforcement, seen: &HostView) {
    steps.push(Step::PrivateMounts);
    steps.push(Step::NewRoot { over: place.over.clone(), bytes: ROOT_BYTES });
    for (name, to) in &seen.tops {
        let path = Path::new("/").join(name);
        steps.push(match to {
            Some(to) => Step::Link { path, to: to.clone() },
            None => Step::Bind { from: path.clone(), path, access: Access::ReadExecute },
        });
    }
    let folder = |path: &str| Step::Folder { path: path.into(), mode: 0o755 };
    steps.extend(["/etc", "/dev", "/run", "/var"].map(folder));
    steps.extend(["/var/tmp", "/dev/shm"].map(|it| Step::Link { path: it.into(), to: "/tmp".into() }));
    steps.extend(etc(spec, place, host));
    for name in &seen.etc {
        let path = Path::new("/etc").join(name);
        steps.push(Step::Bind { from: path.clone(), path, access: Access::Read });
    }
    for name in &seen.devices {
        let path = Path::new("/dev").join(name);
        steps.push(Step::Bind { from: path.clone(), path, access: Access::Device });
    }
    let link = |(path, to): (&str, &str)| Step::Link { path: path.into(), to: to.into() };
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    steps.extend(links.map(|(name, to)| link((&format!("/dev/{name}"), &format!("/proc/self/fd{to}")))));
    steps.push(if host.keeps(Promise::PidNamespace) {
        Step::Proc { path: "/proc".into() }
    } else {
        Step::Bind { from: "/proc".into(), path: "/proc".into(), access: Access::Read }
    });
    steps.push(Step::Bind { from: spec.package.clone(), path: "/module".into(), access: Access::ReadExecute });
    steps.push(Step::Bind { from: place.run.clone(), path: "/run/mortise".into(), access: Access::Read });
    if spec.role == Role::Base {
        let path = "/run/mortise/http".into();
        steps.push(Step::Bind { from: place.http.clone(), path, access: Access::Read });
    }
    // What is in it is charged to the worker, so its own size only keeps one mistake from eating all of its memory.
    let bytes = spec.limits.memory / 2;
    steps.push(Step::Tmpfs { path: "/tmp".into(), bytes, inodes: TMP_INODES });
    steps.push(Step::EnterRoot);
}

/// The few files by which C libraries know users and hosts.
fn etc(spec: &WorkerSpec, place: &Place, host: &Enforcement) -> [Step; 5] {
    let (uid, gid) = if host.keeps(Promise::OwnUid) { (spec.uid, spec.uid) } else { place.own };
    let name = &spec.module;
    let file = |path: &str, content: String| Step::File { path: path.into(), content };
    [
        file("/etc/passwd", format!("root:x:0:0::/:/usr/sbin/nologin\n{name}:x:{uid}:{gid}::/tmp:/usr/sbin/nologin\n")),
        file("/etc/group", format!("root:x:0:\n{name}:x:{gid}:\n")),
        file("/etc/hosts", format!("127.0.0.1 localhost {name}\n::1 localhost\n")),
        file("/etc/hostname", format!("{name}\n")),
        file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".into()),
    ]
}

/// From the supervisor's rights to none.
fn identity(steps: &mut Vec<Step>, spec: &WorkerSpec, place: &Place, host: &Enforcement) {
    let own_uid = host.keeps(Promise::OwnUid);
    let user_namespace = host.keeps(Promise::UserNamespace);
    if own_uid {
        let groups = if spec.role == Role::Base { vec![place.http_gid] } else { Vec::new() };
        steps.push(Step::Identity { uid: spec.uid, gid: spec.uid, groups });
    }
    let (uid, gid) = if own_uid { (spec.uid, spec.uid) } else { place.own };
    if user_namespace {
        steps.push(Step::UserNamespace { uid, gid });
    }
    // Who is neither root nor in a user namespace has none to drop.
    if own_uid || user_namespace {
        steps.push(Step::DropCapabilities);
    }
}

fn landlock(view: &View, seen: &HostView) -> Step {
    let read = TOPS.iter().chain(&["etc", "dev", "proc"]).map(|it| Path::new("/").join(it));
    let read = read.chain([view.package.clone(), view.run.clone()]).collect();
    // The two FIFOs lie outside the worker's view; by these names a program opens /dev/stdout and /dev/stderr.
    let write = ["/tmp", "/proc/self/fd/1", "/proc/self/fd/2"].map(Into::into).into_iter();
    let write = write.chain(seen.devices.iter().map(|it| Path::new("/dev").join(it))).collect();
    Step::Landlock { read, write }
}

fn program(spec: &WorkerSpec, place: &Place, host: &Enforcement, view: &View) -> (Program, Run) {
    let path = match &spec.program.exec {
        Exec::Package(path) => view.package.join(path.as_str()),
        Exec::Host(path) => path.clone(),
    };
    let clean = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8")];
    let mut environment: Vec<(String, String)> = clean.map(|(name, value)| (name.into(), value.into())).into();
    // What module.toml says replaces what is there by default; what Mortise itself tells the program comes last.
    for (name, value) in &spec.program.environment {
        environment.retain(|(it, _)| it != name);
        environment.push((name.clone(), value.clone()));
    }
    let run = match &spec.serve {
        None => {
            environment.push((BOOT_FD_VARIABLE.into(), BOOT_FD.to_string()));
            Run::Exec
        }
        Some(serve) => {
            let port = if host.keeps(Promise::NetNamespace) { OWN_PORT } else { place.free_port };
            let (listen, variable) = match serve.listen {
                manifest::Listen::Inherit => (Listen::Inherit, ("LISTEN_FDS", "1".to_string())),
                manifest::Listen::Port => (Listen::Port(port), ("PORT", port.to_string())),
            };
            environment.push((variable.0.into(), variable.1));
            Run::Serve(Serve { listen, health: serve.health.clone() })
        }
    };
    let arguments = std::iter::once(path.to_string_lossy().into_owned()).chain(spec.program.arguments.iter().cloned());
    let environment = environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let program = Program { path, arguments: arguments.collect(), environment, folder: view.package.clone() };
    (program, run)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mortise_control::{ModuleName, TenantName, Token, WorkerId};

    use super::*;
    use crate::host::Promises;
    use crate::spawn;

    fn spec(role: Role) -> WorkerSpec {
        WorkerSpec {
            worker: WorkerId { slot: 4, generation: 2 },
            role,
            tenant: TenantName::new("acme").unwrap(),
            module: ModuleName::new("spell").unwrap(),
            version: semver::Version::new(1, 0, 0),
            token: Token([0; 16]),
            uid: 200_004,
            package: "/state/packages/sha256/ab".into(),
            program: spawn::Program {
                exec: Exec::Package(manifest::PackagePath::new("bin/spell").unwrap()),
                arguments: vec!["--fast".into()],
                environment: BTreeMap::new(),
            },
            configuration: BTreeMap::new(),
            limits: manifest::Limits::default(),
            http: false,
            inherited: Vec::new(),
            serve: None,
        }
    }

    fn place() -> Place {
        Place {
            over: "/run/mortise/root".into(),
            run: "/run/mortise/workers/4.2".into(),
            http: "/run/mortise/http".into(),
            http_gid: 199_999,
            own: (1000, 100),
            free_port: 4711,
        }
    }

    fn seen() -> HostView {
        HostView {
            tops: vec![("usr", None), ("bin", Some("usr/bin".into()))],
            etc: vec!["ld.so.cache"],
            devices: vec!["null"],
        }
    }

    fn without(gone: &[Promise]) -> Enforcement {
        let kept: Promises = Promise::ALL.into_iter().filter(|it| !gone.contains(it)).collect();
        Enforcement::new(kept)
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        let mut names: Vec<_> = plan.steps.iter().map(Step::name).collect();
        names.dedup();
        names
    }

    #[test]
    fn what_a_step_needs_is_taken_away_only_after_it() {
        let plan = plan(&spec(Role::Sdk), &place(), &without(&[]), &seen(), vec![0; 8]);
        let order = [
            "cgroup-namespace",
            "private-mounts",
            "new-root",
            "bind",
            "link",
            "folder",
            "link",
            "file",
            "bind",
            "link",
            "proc",
            "bind",
            "tmpfs",
            "enter-root",
            "loopback",
            "host-name",
            "resource-limit",
            "identity",
            "user-namespace",
            "drop-capabilities",
            "no-new-privileges",
            "landlock",
            "seccomp",
        ];
        assert_eq!(names(&plan), order);
        assert_eq!(plan.run, Run::Exec);
        assert_eq!(plan.program.path, Path::new("/module/bin/spell"));
        assert_eq!(plan.program.arguments, ["/module/bin/spell", "--fast"]);
    }

    #[test]
    fn only_a_base_gets_the_http_folder_and_its_group() {
        let of = |role| plan(&spec(role), &place(), &without(&[]), &seen(), Vec::new()).steps;
        let folder = |it: &Step| matches!(it, Step::Bind { from, .. } if from.ends_with("http"));
        let group = |it: &Step| matches!(it, Step::Identity { groups, .. } if groups.contains(&199_999));
        for (role, gets) in [(Role::Base, true), (Role::Sdk, false), (Role::Http, false)] {
            assert_eq!((of(role).iter().any(folder), of(role).iter().any(group)), (gets, gets), "{role:?}");
        }
    }

    #[test]
    fn what_is_not_kept_is_left_out() {
        let of = |gone: &[Promise]| names(&plan(&spec(Role::Sdk), &place(), &without(gone), &seen(), Vec::new()));
        for (promise, step) in [
            (Promise::MountNamespace, "enter-root"),
            (Promise::NetNamespace, "loopback"),
            (Promise::UtsNamespace, "host-name"),
            (Promise::CgroupNamespace, "cgroup-namespace"),
            (Promise::PidNamespace, "proc"),
            (Promise::UserNamespace, "user-namespace"),
            (Promise::OwnUid, "identity"),
            (Promise::Landlock, "landlock"),
            (Promise::Seccomp, "seccomp"),
        ] {
            assert!(of(&[]).contains(&step) && !of(&[promise]).contains(&step), "{promise}");
        }
        let none = of(&Promise::ALL);
        assert_eq!(none, ["resource-limit", "no-new-privileges"], "what needs no host feature is always done");
    }

    #[test]
    fn without_mounts_things_are_where_the_host_has_them() {
        let plan = plan(&spec(Role::Sdk), &place(), &without(&[Promise::MountNamespace]), &seen(), Vec::new());
        assert_eq!(plan.program.path, Path::new("/state/packages/sha256/ab/bin/spell"));
        let landlock = plan.steps.iter().find_map(|it| match it {
            Step::Landlock { read, .. } => Some(read.clone()),
            _ => None,
        });
        assert!(landlock.unwrap().contains(&place().run));
    }

    #[test]
    fn a_program_learns_where_to_listen() {
        let of = |listen, gone: &[Promise]| {
            let mut spec = spec(Role::Http);
            spec.serve = Some(spawn::Serve { listen, health: Some("/up".into()) });
            let plan = plan(&spec, &place(), &without(gone), &seen(), Vec::new());
            let said =
                plan.program.environment.into_iter().filter(|it| it.starts_with("PORT") || it.starts_with("LISTEN"));
            assert!(matches!(&plan.run, Run::Serve(it) if it.health.as_deref() == Some("/up")));
            said.collect::<Vec<_>>()
        };
        assert_eq!(of(manifest::Listen::Inherit, &[]), ["LISTEN_FDS=1"]);
        assert_eq!(of(manifest::Listen::Port, &[]), ["PORT=8080"]);
        assert_eq!(of(manifest::Listen::Port, &[Promise::NetNamespace]), ["PORT=4711"]);
    }

    #[test]
    fn a_user_outside_a_namespace_of_its_own_is_the_supervisors() {
        let plan = plan(&spec(Role::Sdk), &place(), &without(&[Promise::OwnUid]), &seen(), Vec::new());
        assert!(plan.steps.contains(&Step::UserNamespace { uid: 1000, gid: 100 }));
        let passwd = |it: &Step| matches!(it, Step::File { path, content } if path.ends_with("passwd") && content.contains(":1000:100:"));
        assert!(plan.steps.iter().any(passwd));
    }
}
