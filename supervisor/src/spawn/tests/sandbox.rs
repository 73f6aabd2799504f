//! What a worker sees and what it may do.

use std::fs::File;
use std::sync::Arc;

use mortise_control::{Boot, Role};
use serde_json::{Value, json};

use super::house::{House, read_all_bytes};
use crate::lifecycle::ExitStatus;
use crate::spawn::Inherited;

fn look(house: &House, change: impl FnOnce(&mut crate::spawn::WorkerSpec)) -> (Value, u32) {
    std::fs::write(house.config.run.join("../package/look.py"), include_str!("look.py")).unwrap();
    let mut spec = house.spec("/usr/bin/python3", &["/module/look.py"]);
    change(&mut spec);
    let uid = spec.uid;
    let (out, status) = house.run(spec);
    assert_eq!(status, ExitStatus::Code(0), "{out}");
    (serde_json::from_str(&out).unwrap(), uid)
}

#[test]
fn a_worker_has_a_user_of_its_own_and_no_right() {
    let Some(house) = House::build() else { return };
    let (seen, uid) = look(&house, |_| {});
    let four = format!("{uid}\t{uid}\t{uid}\t{uid}");
    let none = "0000000000000000";
    let expected = json!({
        "Uid": four, "Gid": four, "Groups": " ", "NoNewPrivs": "1", "Seccomp": "2",
        "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
    });
    assert_eq!(seen["status"], expected);
    assert_eq!(seen["limits"], json!([[1024, 1024], [0, 0]]));
}

#[test]
fn a_worker_sees_what_is_meant_for_it_and_nothing_else() {
    let Some(house) = House::build() else { return };
    let (seen, _) = look(&house, |spec| {
        spec.program.environment.insert("COLOUR".into(), "blue".into());
        spec.program.environment.insert("LANG".into(), "C.utf8".into());
    });
    assert_eq!((&seen["pid"], &seen["pids"]), (&json!(1), &json!([1])));
    assert_eq!(seen["fds"], json!([0, 1, 2, 3]));
    assert_eq!(seen["interfaces"], json!(["lo"]));
    assert_eq!(seen["groups"], json!(["/"]), "its own group is the root of all");
    assert_eq!(seen["host"], "probe");
    assert_eq!(seen["module"], json!(["greeting", "look.py"]));
    assert_eq!(seen["run"], json!(["control.sock", "http", "stderr", "stdout"]));
    assert_eq!(seen["there"], json!([]));
    assert_eq!(seen["writable"], json!([]));
    assert_eq!(seen["writable mounts"], json!(["/proc", "/tmp"]));
    let open = (&seen["tmp"], &seen["stdout"], &seen["null"], &seen["run_from_usr"]);
    let yes = json!("allowed");
    assert_eq!(open, (&yes, &yes, &yes, &yes));
    assert_eq!(seen["run_from_tmp"], "EACCES");
    let path = "/usr/local/bin:/usr/bin:/bin";
    let environment = json!({
        "PATH": path, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.utf8", "COLOUR": "blue", "MORTISE_BOOT_FD": "3",
    });
    assert_eq!(seen["environment"], environment);
}

#[test]
fn what_reaches_beyond_a_worker_is_refused() {
    let Some(house) = House::build() else { return };
    let (seen, _) = look(&house, |_| {});
    let expected = json!({
        "mount": "EPERM", "unshare": "EPERM", "setns": "EPERM", "ptrace": "EPERM", "chroot": "EPERM", "bpf": "EPERM",
        "io_uring_setup": "EPERM", "clone in a user namespace": "EPERM", "clone3": "ENOSYS", "keyctl": "EPERM",
        "setuid 0": "EINVAL", "packet socket": "EAFNOSUPPORT", "raw socket": "EPERM", "connect out": "ENETUNREACH",
        "oom_score_adj": "EACCES", "control socket of nobody": "EACCES",
    });
    assert_eq!(seen["refused"], expected);
}

#[test]
fn the_boot_record_names_what_is_inherited() {
    let Some(house) = House::build() else { return };
    let mut spec = house.shell("cat <&3; exec 3<&-; cat <&5");
    let gift = house.folder.path().join("gift");
    std::fs::write(&gift, "a gift").unwrap();
    spec.http = true;
    spec.inherited = vec![Inherited { name: "ingress-0".into(), fd: Arc::new(File::open(gift).unwrap().into()) }];
    spec.configuration.insert("depth".into(), "3".into());
    let running = house.spawn(spec.clone());
    let bytes = read_all_bytes(&running.stdout);
    let record = bytes.strip_suffix(b"a gift").expect("descriptor 5 is the second that is inherited");
    let boot: Boot = rmp_serde::from_slice(record).unwrap();
    assert_eq!((boot.worker, boot.role, boot.token), (spec.worker, Role::Sdk, spec.token));
    assert_eq!(boot.control, std::path::Path::new("/run/mortise/control.sock"));
    assert_eq!((boot.inherited_fd("http"), boot.inherited_fd("ingress-0")), (Some(4), Some(5)));
    assert_eq!(boot.configuration["depth"], "3");
}

#[test]
fn only_a_base_reaches_the_http_sockets() {
    let Some(house) = House::build() else { return };
    let mut other = house.shell("exec sleep 1000");
    other.http = true;
    let other = house.spawn(other);
    let connect = format!(
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/mortise/http/{}.sock'); print('connected')",
        other.worker
    );
    let mut base = house.spec("/usr/bin/python3", &["-c", &connect]);
    base.role = Role::Base;
    assert_eq!(house.run(base), ("connected\n".into(), ExitStatus::Code(0)));
    let stranger = house.spec("/usr/bin/python3", &["-c", &connect]);
    assert_eq!(house.run(stranger), (String::new(), ExitStatus::Code(1)));
}

#[test]
fn a_root_that_was_entered_is_gone_with_its_worker() {
    let Some(house) = House::build() else { return };
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mine = |text: &str| text.lines().filter(|it| it.contains(house.folder.path().to_str().unwrap())).count();
    house.run(house.shell("true"));
    assert_eq!(mine(&mounts()), mine(&before));
    assert_eq!(std::fs::read_dir(house.config.run.join("root")).unwrap().count(), 0);
}
