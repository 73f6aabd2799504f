# The order of an end and of a beginning: `systemctl stop` of the target, and a reboot. Sourced by package.sh.

# A module that answers in its own time, does not hear SIGTERM and says that it needs so long to end.
stubborn() {
  local folder=/run/stubborn
  mkdir -p $folder
  cat > $folder/module.toml << 'TOML'
name = "stubborn"
version = "1.0.0"
runtime = "http"
exec = "/usr/bin/python3"
args = ["/module/stubborn.py"]
listen = "inherit"
files = ["stubborn.py"]
[[provides]]
service = "stubborn"
http = { prefix = "/stubborn" }
[limits]
memory = "64M"
pids = 16
[timeouts]
start = "30s"
TOML
  echo "stop = \"$1\"" >> $folder/module.toml
  cat > $folder/stubborn.py << 'PYTHON'
import http.server, signal, socket, time
class Stubborn(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("has taken it", flush=True)
        time.sleep(3)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")
signal.signal(signal.SIGTERM, lambda *_: print("does not hear SIGTERM", flush=True))
server = http.server.ThreadingHTTPServer(("", 0), Stubborn, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
PYTHON
  for it in install\ $folder start\ stubborn publish\ stubborn; do mortise $it; done
  eventually asks_it
}
asks_it() { curl -sS --fail --max-time 30 $ingress/stubborn | grep -x done; }
# At which line of the journal a module ended.
ended() { told | grep -n "^$1: ended: " | head -1 | cut -d: -f1 | grep .; }

a_stop_of_the_target_goes_in_order_and_kills_who_does_not_end() {
  stubborn 2s; mark
  asks_it & local asked=$!
  eventually tells 'stubborn: has taken it'
  systemctl stop mortise.target
  # What was in flight was answered.
  wait $asked
  eventually is mortise-workers ActiveState inactive
  nothing_runs
  told
  # Nothing comes in; then who calls before who is called.
  local base=$(ended base) site=$(ended site) spell=$(ended spell) markdown=$(ended markdown)
  [ $base -lt $site ]; [ $site -lt $spell ]; [ $site -lt $markdown ]
  tells 'stubborn: does not hear SIGTERM'
  tells 'stubborn: is killed: it did not end within 2s of SIGTERM'
  [ "$(told | grep -c ': is killed: ')" = 1 ]
  is mortise-drain Result success
  is mortised Result success
  is mortise-workers Result success
  systemctl start mortise.target
  eventually checked
}
a_stop_of_the_target_ends_in_its_time() {
  # As if it had minutes, and the drain had seconds.
  local drop_in=/run/systemd/system/mortise-drain.service.d
  mkdir -p $drop_in
  printf '[Service]\nExecStop=\nExecStop=-/usr/bin/mortise --timeout 5s shutdown\n' > $drop_in/50-test.conf
  systemctl daemon-reload
  mortise stop stubborn
  mortise uninstall stubborn
  stubborn 10m; mark
  systemctl stop mortise.target mortise-workers.service
  nothing_runs
  told
  tells 'stubborn: does not hear SIGTERM'
  fails tells 'stubborn: is killed'
  fails tells 'workers have ended'
  rm -r $drop_in
  systemctl daemon-reload
  systemctl start mortise.target
  eventually checked
  eventually asks_it
  mortise --timeout 30s stop stubborn & local stopping=$!
  eventually tells 'stubborn: leaves'
  kill -9 $(pid stubborn)
  wait $stopping
  mortise uninstall stubborn
}
requires_modules() {
  printf '[readiness]\nmodules = ["site", "spell", "legacy"]\nwithin = "5m"\n' > /etc/mortise/mortise.toml.d/50-readiness.toml
  systemctl reload mortised
  eventually is mortised StatusText ready
}
# After a reboot: all that is wanted starts at once, and READY comes after those that are required.
starts_overlap_and_required_modules_come_before_ready() {
  eventually is mortised ActiveState active
  journalctl --sync
  journalctl -q -b -o json --output-fields=MODULE,MESSAGE,_SOURCE_REALTIME_TIMESTAMP | python3 -c '
import json, sys
started, ready, unit_is_ready = {}, {}, int(sys.argv[1])
# When it was sent, by the kernel: the journal writes its own time when it comes to the entry, and that may be after systemd has heard
# READY=1, which was sent later.
def sent(it):
    written = int(it["__REALTIME_TIMESTAMP"])
    return int(it["__MONOTONIC_TIMESTAMP"]) - (written - int(it.get("_SOURCE_REALTIME_TIMESTAMP", written)))
for line in sys.stdin:
    it = json.loads(line)
    module, text, at = it.get("MODULE"), str(it.get("MESSAGE")), sent(it)
    if module and text.startswith("started as process"):
        started.setdefault(module, at)
    elif module and text == "ready":
        ready.setdefault(module, at)
print("started", started, "ready", ready, "unit", unit_is_ready)
for module in ("site", "spell", "legacy"):
    assert ready[module] < unit_is_ready, module
modules = set(started) & set(ready)
assert {"base", "site", "spell", "markdown", "legacy"} <= modules, modules
most = max(sum(started[it] <= at < ready[it] for it in modules) for at in started.values())
print("starts at one time:", most)
assert most >= 3, most
' "$(systemctl show --value -p ActiveEnterTimestampMonotonic mortised)"
  rm /etc/mortise/mortise.toml.d/50-readiness.toml
}
