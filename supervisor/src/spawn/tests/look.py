# What a worker sees of the world, as one JSON object.
import ctypes, errno, json, os, socket

libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(it) for it in arguments])
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "allowed"

def tried(attempt):
    try:
        attempt()
        return "allowed"
    except OSError as e:
        return errno.errorcode[e.errno]

def run(path):
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, [path])
        except OSError as e:
            os._exit(e.errno)
    return errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "allowed")

def copy(source, target):
    with open(source, "rb") as f, open(target, "wb") as g:
        g.write(f.read())
    os.chmod(target, 0o755)

status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
copy("/usr/bin/true", "/tmp/true")
print(json.dumps({
    "status": {key: status[key] for key in
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"]},
    "pid": os.getpid(),
    "pids": sorted(int(it) for it in os.listdir("/proc") if it.isdigit()),
    "fds": sorted(int(it) for it in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{it}")),
    "environment": dict(os.environ),
    "groups": sorted({line.rstrip("\n").split(":", 2)[2] for line in open("/proc/self/cgroup")}),
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]],
    "host": socket.gethostname(),
    "module": sorted(os.listdir("/module")),
    "run": sorted(os.listdir("/run/mortise")),
    "there": [it for it in ["/sys", "/root", "/home", "/mnt", "/opt", "/srv", "/boot", "/var/lib"] if os.path.exists(it)],
    "writable": [it for it in ["/", "/usr", "/module", "/run/mortise", "/etc", "/dev"]
        if tried(lambda: os.open(it + "/x", os.O_CREAT | os.O_WRONLY)) == "allowed"],
    "writable mounts": sorted(it[4] for it in (line.split(" ") for line in open("/proc/self/mountinfo")) if "rw" in it[5].split(",")),
    "tmp": tried(lambda: os.open("/tmp/x", os.O_CREAT | os.O_WRONLY)),
    "stdout": tried(lambda: os.open("/dev/stdout", os.O_WRONLY)),
    "null": tried(lambda: os.open("/dev/null", os.O_RDWR)),
    "limits": [__import__("resource").getrlimit(it) for it in [__import__("resource").RLIMIT_NOFILE, __import__("resource").RLIMIT_CORE]],
    "run_from_tmp": run("/tmp/true"),
    "run_from_usr": run("/usr/bin/true"),
    "refused": {
        "mount": call(165, 0, 0, 0, 0, 0),
        "unshare": call(272, 0x10000000),
        "setns": call(308, 0, 0),
        "ptrace": call(101, 0, 0, 0, 0),
        "chroot": call(161, 0),
        "bpf": call(321, 0, 0, 0),
        "io_uring_setup": call(425, 1, 0),
        "clone in a user namespace": call(56, 0x10000011, 0, 0, 0, 0),
        "clone3": call(435, 0, 0),
        "keyctl": call(250, 0, 0, 0, 0, 0),
        "setuid 0": tried(lambda: os.setuid(0)),
        "packet socket": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "raw socket": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        "connect out": tried(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
        "oom_score_adj": tried(lambda: open("/proc/self/oom_score_adj", "w")),
        "control socket of nobody": tried(lambda: os.open("/run/mortise/stdout", os.O_RDONLY | os.O_NONBLOCK)),
    },
}))
