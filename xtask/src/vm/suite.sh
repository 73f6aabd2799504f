# The whole-system tests, one file after the other. `FILTER` is what was asked for, or nothing.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
export MORTISE_ARTIFACTS=/payload/programs MORTISE_SKIPPED=/tmp/skipped

# The tests and the supervisors that they start are in groups beside each other: a group with children has no processes.
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$own/tests" && echo $$ > "$own/tests/cgroup.procs"
echo '+memory +cpu +pids +io' > "$own/cgroup.subtree_control" || echo '+memory +cpu +pids' > "$own/cgroup.subtree_control"
export MORTISE_CGROUP=$own

mount -t tmpfs -o size=1G tmpfs /tmp
: > $MORTISE_SKIPPED
echo "vm: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), up after $(cut -d' ' -f1 /proc/uptime) s, controllers: $(cat $own/cgroup.controllers)"
cd /tmp
for test in /payload/tests/*; do
  echo "vm: running $(basename $test)"
  $test --test-threads=1 --color=never FILTER 2>&1
done
sed 's/^/vm-skipped: /' $MORTISE_SKIPPED
echo "vm: end"
systemctl --no-block poweroff
