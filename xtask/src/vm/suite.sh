# The whole-system tests, one file after the other.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
export MORTISE_ARTIFACTS=/payload/programs MORTISE_SKIPPED=/tmp/skipped
mount -t tmpfs -o size=1G tmpfs /tmp
: > $MORTISE_SKIPPED
cd /tmp
for test in /payload/tests/*; do
  echo "vm: running $(basename $test), up $(cut -d. -f1 /proc/uptime) s"
  $test --test-threads=1 --color=never FILTER 2>&1
  # libtest says itself what has failed, and ends with 101. One that was killed or cannot be run says nothing.
  status=$?
  [ $status = 0 ] || [ $status = 101 ] || echo "test result: FAILED. 0 passed; 1 failed; $(basename $test) ended with $status"
done
sed 's/^/vm-skipped: /' $MORTISE_SKIPPED
cd / && umount /tmp
