# The Debian package under a real systemd, over a reboot. Sourced after suite.sh's tests in the first boot, and alone in the second.
# Each step is a function; it fails with its first command that fails. They build on each other, in this order.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
packages=/payload/programs/packages
ingress=http://127.0.0.1:8080
passed=0 failed=0

step() {
  local log=/run/step.log
  # Not as a condition: there, set -e has no effect.
  (set -eEo pipefail; trap 'echo "failed: $BASH_COMMAND" >&2' ERR; "$1") > $log 2>&1
  if [ $? = 0 ]; then
    echo "test package::$1 ... ok"; passed=$((passed + 1))
  else
    echo "test package::$1 ... FAILED"; failed=$((failed + 1))
    tail -30 $log | sed 's/^/    /'
    journalctl -b -u mortised -u mortise-workers -u mortise-drain -n 15 --no-pager -o cat | sed 's/^/    journal: /'
  fi
}

# Until a condition holds, for what is on its way.
eventually() { for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done; echo "never: $*"; return 1; }
# `! command` would not end a step.
fails() { ! "$@"; }
is() { [ "$(systemctl show --value -p "$2" "$1")" = "$3" ]; }
pids() { mortise --json ps | python3 -c 'import json,sys; print(sorted((r["module"], r["pid"]) for r in json.load(sys.stdin) if r.get("pid")))'; }
report() { mortise --json call load.report | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
running() { ps -eo uid=,pid=,comm= | awk '($1 >= 200000 && $1 < 300000) || $3 ~ /^mortise/'; }
nothing_runs() { local all=$(running); echo "$all"; [ -z "$all" ]; }
guests() { curl -sS --fail --max-time 30 $ingress/guestbook | grep '<h1>Guest book</h1>'; }
checked() { curl -sS --fail --max-time 30 --data-binary 'Teh server' $ingress/site/check | grep -x 'Teh: the, eth, tech, teth, tea'; }

installs() {
  dpkg -i /payload/mortise.deb
  systemctl is-enabled mortise.target
  nothing_runs
  [ "$(getent group mortise-http)" = 'mortise-http:x:199999:' ]
  [ "$(stat -c %a:%U /var/lib/mortise)" = 700:root ]
  systemd-analyze verify --man=no mortise.target mortised.service mortise-workers.service mortise-drain.service \
    mortise-ingress.socket mortise-admin.socket
}
a_user_runs_it_without_privileges() {
  useradd --create-home guest
  local uid=$(id -u guest) pid group
  loginctl enable-linger guest
  eventually is user@$uid ActiveState active
  guest() { runuser -u guest -- env XDG_RUNTIME_DIR=/run/user/$uid MORTISE_SOCKET=/run/user/$uid/mortise/admin.sock "$@"; }
  worker() { guest mortise --json ps | python3 -c 'import json,sys; print(next(r["pid"] for r in json.load(sys.stdin) if r["module"] == "unruly"))'; }
  guest systemctl --user start mortise.target
  # Limits are kept: systemd passes the controllers on. Workers have no uids of their own: there is one.
  [ "$(guest systemctl --user show --value -p StatusText mortised)" = 'ready; not kept on this host: own-uid' ]
  for it in install\ $packages/unruly start\ unruly publish\ unruly; do guest mortise $it; done
  guest mortise call unruly.echo '{"text": "hello"}' | grep hello
  pid=$(worker)
  [ "$(stat -c %u /proc/$pid)" = $uid ]
  group=$(cut -d: -f3 /proc/$pid/cgroup)
  [[ $group == */user@$uid.service/*/mortise-workers.service/mortise-* ]]
  [ "$(cat /sys/fs/cgroup$group/memory.max)" != max ]
  guest systemctl --user restart mortised
  [ "$(worker)" = $pid ]
  guest mortise call unruly.echo '{"text": "again"}' | grep again
  guest systemctl --user stop mortise.target mortise-workers.service
  nothing_runs
  loginctl disable-linger guest
  eventually is user@$uid ActiveState inactive
  userdel --remove guest
}
starts() {
  systemctl start mortise.target
  is mortise.target ActiveState active
  is mortised ActiveState active
  is mortise-workers ActiveState active
  mortise ps | grep base
}
runs_the_tour() {
  for it in dictionary spell markdown-1 site legacy; do mortise install $packages/$it; done
  for it in dictionary spell markdown site legacy; do mortise start $it; done
  for it in spell markdown site legacy; do mortise publish $it; done
  checked
  guests
  mortise call spell.suggest '{"word": "wroker", "most": 1}' | grep worker
}
workers_are_in_their_own_unit() {
  local pid=$(mortise --json ps | python3 -c 'import json,sys; print(next(r["pid"] for r in json.load(sys.stdin) if r["module"] == "spell"))')
  grep '/mortise-workers.service/mortise-' /proc/$pid/cgroup
  [ "$(cat /proc/$pid/oom_score_adj)" = 0 ]
}
the_journal_knows_modules() {
  eventually sh -c "journalctl -b MODULE=legacy -o cat | grep 'guest book: python'"
  journalctl -b MODULE=spell TENANT=default VERSION=1.0.0 -o cat | grep ready
}
restarts_of_the_supervisor_lose_nothing() {
  for it in unruly load; do mortise install $packages/$it; mortise start $it; mortise publish $it; done
  (while [ ! -e /run/enough ]; do checked > /dev/null || echo lost >> /run/lost; done) &
  local requests=$! before=$(pids) answered
  for _ in 1 2 3; do
    answered=$(report answered)
    systemctl restart mortised
    [ "$(report answered)" -gt "$answered" ]
  done
  local main=$(systemctl show --value -p MainPID mortised)
  kill -9 $main
  eventually sh -c "[ \"\$(systemctl show --value -p MainPID mortised)\" != $main ] && systemctl -q is-active mortised"
  touch /run/enough; wait $requests
  [ ! -e /run/lost ]
  [ "$(report failed)" = 0 ]
  echo "$before"; pids
  [ "$(pids)" = "$before" ]
}
a_reload_takes_all_or_nothing() {
  local drop_in=/etc/mortise/mortise.toml.d/50-test.toml before=$(pids)
  /usr/lib/mortise/mortised --check-config | grep 'listen = \["127.0.0.1:8080"\] .*# /etc/mortise/mortise.toml:'
  echo 'log = "debug"' > $drop_in
  systemctl reload mortised
  eventually sh -c "journalctl -b -u mortised -o cat | grep 'mortise.toml is read again'"
  eventually is mortised StatusText ready
  is mortised ActiveState active
  # Wrong: the reload fails, and nothing has changed.
  echo 'logg = "info"' > $drop_in
  fails systemctl reload mortised
  eventually sh -c 'systemctl show --value -p StatusText mortised | grep "ready; mortise.toml was refused (1 error"'
  is mortised ActiveState active
  journalctl -b -u mortised -o cat | grep 'did you mean `log`'
  # Right, but not at run time: the status tells.
  echo 'listen = ["127.0.0.1:9999"]' > $drop_in
  systemctl reload mortised
  eventually sh -c 'systemctl show --value -p StatusText mortised | grep "ready; mortise.toml was refused"'
  rm $drop_in
  systemctl reload mortised
  eventually is mortised StatusText ready
  is mortised ActiveState active
  [ "$(pids)" = "$before" ]
  checked
}
a_wrong_configuration_is_not_tried_again() {
  local drop_in=/etc/mortise/mortise.toml.d/50-test.toml before=$(pids)
  echo 'logg = "info"' > $drop_in
  fails systemctl restart mortised
  is mortised ActiveState failed
  is mortised ExecMainStatus 78
  is mortised StatusText 'not started: mortise.toml is wrong (1 error, see the log)'
  is mortised NRestarts 0
  # Modules do not notice.
  checked
  rm $drop_in
  systemctl start mortised
  is mortised StatusText ready
  [ "$(pids)" = "$before" ]
}
it_is_exposed_no_more_than_documented() {
  systemd-analyze security --no-pager mortised.service | tail -1 > /run/exposure
  echo "package: $(cat /run/exposure)" > /dev/ttyS1
  systemd-analyze security --no-pager --threshold=50 mortised.service > /dev/null
}
a_shutdown_lasts() {
  mortise shutdown
  eventually is mortised ActiveState inactive
  is mortised Result success
  is mortise-workers ActiveState active
  # `mortised hold`
  [ "$(pgrep -xc mortised)" = 1 ]
  [ -z "$(pgrep -x mortise-base)" ]
  systemctl start mortised
  eventually checked
}
stopping_the_target_drains() {
  systemctl stop mortise.target
  # It returns when the drain is over: no worker and no base is left.
  is mortise-drain ActiveState inactive
  [ -z "$(ps -eo uid= | awk '$1 >= 200000 && $1 < 300000')" ]
  [ -z "$(pgrep -x mortise-base)" ]
  eventually is mortise-workers ActiveState inactive
  is mortise-drain Result success
  is mortised Result success
  is mortise-workers Result success
  nothing_runs
  journalctl --sync
  journalctl -b -u mortise-drain -o cat | grep 'workers have ended'
}
modules_are_back_after_a_start() {
  systemctl start mortise.target
  eventually checked
  sync
}
sockets_of_systemd_hold_what_comes_meanwhile() {
  systemctl stop mortise.target
  eventually is mortise-workers ActiveState inactive
  systemctl enable mortise-ingress.socket mortise-admin.socket
  systemctl start mortise.target
  eventually checked
  # The base has the very socket that systemd has.
  [ "$(ss -Hlnt 'sport = :8080' | wc -l)" = 1 ]
  ss -Hlntp 'sport = :8080' | grep mortise-base | grep systemd
  local before=$(pids)
  systemctl restart mortised
  eventually checked
  [ "$(pids)" = "$before" ]
  # Nobody serves: what asks meanwhile waits, starts the supervisor and is answered.
  systemctl stop mortised
  is mortised ActiveState inactive
  mortise --timeout 100s ps | grep spell
  eventually is mortised ActiveState active
  systemctl stop mortised
  pkill -9 -x mortise-base
  curl -sS --fail --max-time 100 --retry 3 --data-binary 'Teh server' $ingress/site/check | grep -x 'Teh: the, eth, tech, teth, tea'
  eventually is mortised ActiveState active
  systemctl stop mortise.target
  is mortise-ingress.socket ActiveState inactive
  is mortised ActiveState inactive
  eventually is mortise-workers ActiveState inactive
  nothing_runs
  systemctl start mortise.target
  eventually checked
  sync
}
modules_are_back_after_a_reboot() {
  eventually is mortised ActiveState active
  eventually checked
  eventually guests
}
a_purge_leaves_nothing() {
  dpkg --purge mortise
  nothing_runs
  local left
  for left in /var/lib/mortise /run/mortise /usr/lib/mortise /etc/mortise; do [ ! -e $left ]; done
}

. /payload/faults.sh
. /payload/shutdown.sh

# Those that were asked for (package::A|B), after the installation, or all.
first_boot() {
  local only=${1#package::} it
  for it in installs a_user_runs_it_without_privileges starts runs_the_tour workers_are_in_their_own_unit the_journal_knows_modules \
    restarts_of_the_supervisor_lose_nothing a_reload_takes_all_or_nothing a_wrong_configuration_is_not_tried_again \
    it_is_exposed_no_more_than_documented $faults a_stop_of_the_target_goes_in_order_and_kills_who_does_not_end \
    a_stop_of_the_target_ends_in_its_time a_shutdown_lasts stopping_the_target_drains modules_are_back_after_a_start \
    sockets_of_systemd_hold_what_comes_meanwhile requires_modules
  do [[ $it = installs || $it =~ $only ]] && step $it; done
}
second_boot() {
  local it
  for it in starts_overlap_and_required_modules_come_before_ready modules_are_back_after_a_reboot a_purge_leaves_nothing; do step $it; done
}
tell() { echo "test result: $([ $failed = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"; }
