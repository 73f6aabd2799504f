# Faults of the host, under load, and what the package's units make of them: the section of that name in docs/operations.md, one step a row.
# Sourced by package.sh, whose steps install and start what is hit here.
year=31536000

main() { systemctl show --value -p MainPID mortised; }
pid() { mortise --json ps | python3 -c 'import json,sys; print(next(r["pid"] for r in json.load(sys.stdin) if r["module"] == sys.argv[1] and r.get("pid")))' $1; }
group() { echo /sys/fs/cgroup$(cut -d: -f3 /proc/$(pid $1)/cgroup); }
# What is in the journal from here on, a line each: `module: message`.
mark() { journalctl --sync; cursor=$(journalctl -q -n0 --show-cursor | sed -n 's/^-- cursor: //p'); }
told() {
  journalctl --sync
  journalctl -q --after-cursor "$cursor" -o json --output-fields=MODULE,MESSAGE | python3 -c '
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    print(it.get("MODULE", "-"), it.get("MESSAGE"), sep=": ")'
}
tells() { told | grep -- "$1"; }
# unruly and the load that calls it without a pause, and how the load stands.
under_load() {
  for it in unruly load; do
    pid $it > /dev/null 2>&1 || { mortise install $packages/$it; mortise start $it; mortise publish $it; }
  done
  eventually answers_grow 0
  before=$(pids) main=$(main) answered=$(report answered) failed=$(report failed) restarts=$(systemctl show --value -p NRestarts mortised)
}
answers_grow() { [ "$(report answered)" -gt $1 ]; }
# Calls went on, none failed, and everybody is who he was.
nothing_was_lost() {
  eventually answers_grow $answered
  [ "$(report failed)" = $failed ]
  echo "$before"; pids
  [ "$(pids)" = "$before" ]
}
same_supervisor() { [ "$(main)" = $main ] && is mortised NRestarts $restarts; }
has_workers() { [ "$(mortise --json ps | python3 -c 'import json,sys; print(sum(r["module"] == sys.argv[1] and bool(r.get("pid")) for r in json.load(sys.stdin)))' $1)" = $2 ]; }
replaced() { [ "$(pid $1)" != $2 ]; }

a_clock_that_jumps_a_year_changes_no_deadline() {
  under_load; mark
  mortise --timeout 60s call unruly.rest '{"millis": 8000}' > /run/in-time 2>&1 & local in_time=$!
  mortise --timeout 4s call unruly.rest '{"millis": 600000}' > /run/too-late 2>&1 & local too_late=$!
  # Forward and back, all the while.
  while kill -0 $in_time 2> /dev/null; do
    date -s @$(($(date +%s) + year)); checked; date -s @$(($(date +%s) - year))
  done
  wait $in_time
  fails wait $too_late
  cat /run/too-late
  grep -i deadline /run/too-late
  # Health checks, the watchdog and the routes do not mind where it stays.
  date -s @$(($(date +%s) + year))
  answered=$(report answered); nothing_was_lost; same_supervisor
  fails tells unwell
  # Nor do failures get forgotten: five in thirty seconds are too many, in whatever year.
  local it last
  for it in 1 2 3 4 5; do
    last=$(pid unruly)
    kill -9 $last
    date -s @$(($(date +%s) - year)); date -s @$(($(date +%s) + year))
    [ $it = 5 ] || eventually replaced unruly $last
  done
  date -s @$(($(date +%s) - year))
  eventually tells 'unruly: failed, and is not tried again: failed 5 times in a row'
  mortise start unruly
}
a_supervisor_that_stood_still_goes_on_where_it_was() {
  under_load; mark
  mortise --timeout 100s restart unruly > /run/restarted 2>&1 & local restarted=$!
  eventually tells 'unruly: started as process'
  kill -STOP $main
  # Longer than a worker has for its start.
  local end=$((SECONDS + 12))
  while [ $SECONDS -lt $end ]; do checked; done
  kill -CONT $main
  wait $restarted
  same_supervisor
  fails tells 'is killed'
  fails tells unwell
  before=$(pids); nothing_was_lost
}
a_supervisor_that_hangs_is_replaced_by_the_watchdog() {
  local drop_in=/run/systemd/system/mortised.service.d
  mkdir -p $drop_in
  printf '[Service]\nWatchdogSec=8s\n' > $drop_in/50-test.conf
  systemctl daemon-reload
  systemctl restart mortised
  under_load; mark
  kill -STOP $main
  eventually tells 'Watchdog timeout'
  checked
  eventually sh -c "[ \$(systemctl show --value -p MainPID mortised) != $main ] && systemctl -q is-active mortised"
  nothing_was_lost
  rm -r $drop_in
  systemctl daemon-reload
  systemctl restart mortised
}
a_worker_that_is_stopped_loses_its_calls_and_its_place() {
  mark
  local stopped=$(pid spell) it
  kill -STOP $stopped
  fails mortise --timeout 2s call spell.suggest '{"word": "wroker", "most": 1}' 2> /run/told
  cat /run/told
  grep -i deadline /run/told
  eventually tells 'spell: is killed: it is unhealthy: it did not answer a ping'
  eventually checked
  [ "$(pid spell)" != $stopped ]
  # With another one beside it, only what it had taken waits.
  mortise scale spell 2
  mark
  stopped=$(pid spell)
  kill -STOP $stopped
  eventually tells 'spell: is unwell: it did not answer a ping'
  for it in 1 2 3 4 5; do mortise --timeout 2s call spell.suggest '{"word": "wroker", "most": 1}' | grep worker; done
  eventually tells 'spell: is killed: it is unhealthy: it did not answer a ping'
  eventually has_workers spell 2
  mortise scale spell default
}
a_base_out_of_memory_comes_back_and_nobody_is_refused() {
  under_load; mark
  rm -f /run/enough /run/codes
  (while [ ! -e /run/enough ]; do curl -s -o /dev/null --max-time 60 $ingress/site; echo $? >> /run/codes; done) & local asks=$!
  eventually test -s /run/codes
  # Less than it has: the kernel ends it.
  local first=$(pid base)
  echo 1M > $(group base)/memory.max
  eventually tells 'base: ended: out of memory: the kernel killed it'
  eventually replaced base $first
  checked
  touch /run/enough; wait $asks
  sort /run/codes | uniq -c
  # Those that it had taken are cut off (52, 56). Whoever comes later waits in the socket, which the supervisor holds.
  fails grep -vxE '0|52|56' /run/codes
  eventually is mortised StatusText ready
  same_supervisor
  before=$(pids); nothing_was_lost
}
a_group_that_stays_busy_blocks_nothing_else() {
  under_load; mark
  local group=$(group spell)
  mkdir $group/foreign
  sleep infinity & local foreign=$!
  echo $foreign > $group/foreign/cgroup.procs
  # Nobody stops it: it crashes, and is not back before its group is gone.
  kill -9 $(pid spell)
  eventually tells "spell: its group could not be removed yet (0 processes): there are groups below .*: foreign; rmdir them"
  mortise status spell | grep 'rmdir them'
  # What was in its group has ended with it.
  fails wait $foreign
  mortise --timeout 60s restart markdown
  guests
  mortise --timeout 60s stop spell > /run/stopped & local stopping=$!
  answered=$(report answered); eventually answers_grow $answered
  kill -0 $stopping
  rmdir $group/foreign
  wait $stopping
  [ ! -e $group ]
  mortise start spell
  eventually checked
  [ "$(report failed)" = $failed ]
}
an_upgrade_that_fails_late_is_followed_by_the_unit_s_own_program() {
  under_load; mark
  # Its self-check does not look at the base.
  local base=/usr/lib/mortise/base/module.toml tries
  cp $base /run/base.toml
  sed -i 's/^runtime = .*/runtime = "sdk"/' $base
  cp -r /usr/lib/mortise /opt/mortise
  fails mortise --timeout 10s upgrade /opt/mortise/mortised
  # That one has ended so that the unit is started again; its own program finds the same, and that is for an operator.
  eventually is mortised ActiveState failed
  is mortised ExecMainStatus 78
  told
  [ "$(told | grep -c 'mortised.service: Main process exited, code=exited, status=1/FAILURE')" = 1 ]
  [ "$(told | grep -c 'mortised.service: Main process exited, code=exited, status=78/CONFIG')" = 1 ]
  checked
  cp /run/base.toml $base
  systemctl start mortised
  nothing_was_lost
  rm -r /opt/mortise
}
faults="a_clock_that_jumps_a_year_changes_no_deadline a_supervisor_that_stood_still_goes_on_where_it_was
  a_supervisor_that_hangs_is_replaced_by_the_watchdog a_worker_that_is_stopped_loses_its_calls_and_its_place
  a_base_out_of_memory_comes_back_and_nobody_is_refused a_group_that_stays_busy_blocks_nothing_else
  an_upgrade_that_fails_late_is_followed_by_the_unit_s_own_program"
