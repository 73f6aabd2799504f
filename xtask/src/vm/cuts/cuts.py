# After a boot: what the last power cut has left, then operations until the next one. Each line that the host goes by ends with " ;",
# because the last one may have been cut, too.
import json
import os
import random
import subprocess
import threading
import time

PACKAGES = "/payload/programs/packages/"
PATIENCE = 300
lock = threading.Lock()


def say(*words):
    with lock:
        os.write(1, ("cut: " + " ".join(words) + " ;\n").encode())


def mortise(*words):
    return subprocess.run(["/usr/bin/mortise", "--json", *words], capture_output=True, text=True)


def state():
    """Modules as the host's model has them, whether all is as it is wanted, and the operations."""
    asked = mortise("status")
    if asked.returncode != 0:
        return {}, asked.stderr, []
    told = json.loads(asked.stdout)
    modules, lacks = {}, []
    for it in told["modules"]:
        runs = it["desired"] == "running"
        modules[it["module"]] = {
            "installed": sorted(version["version"] for version in it["installed"]),
            "running": it["version"] if runs else None,
            "published": any(service["published"] for service in it["services"]),
        }
        works = [worker for worker in it["workers"] if worker["state"] in ("ready", "published")]
        if runs and it.get("runtime") != "resource" and not works:
            ends = ["%s: %s" % (worker["state"], worker.get("reason")) for worker in it["workers"]]
            lacks.append("%s (%s)" % (it["module"], "; ".join(ends)))
    running = ["%s: %s" % (it["id"], json.dumps(it.get("steps"))) for it in told["operations"] if it["state"] == "running"]
    return modules, lacks + running, [it["id"] for it in told["operations"] if it["state"] == "done"]


def look():
    deadline = time.monotonic() + PATIENCE
    while True:
        modules, lacks, done = state()
        if modules and not lacks or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    shown = subprocess.run(
        ["systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", "mortised"], capture_output=True, text=True
    )
    ready, before, refused, served = int(shown.stdout), 0, [], 0
    for line in open("/run/asked").read().splitlines() if os.path.exists("/run/asked") else []:
        began, told = line.split()
        if int(began) < ready:
            before += 1
        elif told == "200":
            served += 1
        else:
            refused.append(told)
    say("state", json.dumps({"modules": modules, "lacks": lacks, "done": done, "ready": ready,
                             "asked": {"before": before, "served": served, "refused": refused}}))
    return modules


def choice(module, now):
    """An operation that may be asked now, and the same as the host's model has it."""
    if module == "markdown":
        other = "2.0.0" if now["running"] == "1.0.0" else "1.0.0"
        return random.choice([(["swap", module + "@" + other], "swap " + other), (["restart", module], "restart")])
    if not now.get("installed"):
        return ["install", PACKAGES + module], "install 1.0.0"
    verbs = ["unpublish" if now["published"] else "publish"]
    verbs += ["stop", "restart"] if now["running"] else ["start", "uninstall"]
    verb = random.choice(verbs)
    return [verb, module], verb


def work(module):
    while True:
        now = state()[0].get(module, {})
        words, told = choice(module, now)
        say("begin", module, told)
        asked = mortise(*words)
        if asked.returncode == 0:
            say("done", module, json.loads(asked.stdout)["id"], told)
        else:
            say("failed", module, told, " ".join((asked.stderr or asked.stdout).split()))


look()
threads = [threading.Thread(target=work, args=(it,)) for it in ("unruly", "legacy", "markdown")]
say("works")
for it in threads:
    it.start()
