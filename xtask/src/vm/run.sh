# What the machine does: the whole-system tests and the package in its first boot, what is left of the package in its second.
# FILTER is what was asked for, or nothing; `package` asks for the package alone, `package::A|B` for its installation and those steps.
up="up after $(cut -d' ' -f1 /proc/uptime) s"
end() { echo "vm: end"; systemctl --no-block poweroff; }

if [ -e /var/lib/second-boot ]; then
  echo "vm: second boot, $up"
  . /payload/package.sh
  second_boot
  tell
  end
  exit
fi

if [ -e /var/lib/cuts ]; then
  echo "vm: after a power cut, $up"
  exec python3 -u /payload/cuts.py
fi

# The tests and the supervisors that they start are in groups beside each other: a group with children has no processes.
export MORTISE_CGROUP=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$MORTISE_CGROUP/tests" && echo $$ > "$MORTISE_CGROUP/tests/cgroup.procs"
echo "$(sed 's/\</+/g' "$MORTISE_CGROUP/cgroup.controllers")" > "$MORTISE_CGROUP/cgroup.subtree_control"
echo "vm: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), $up," \
  "controllers: $(cat "$MORTISE_CGROUP/cgroup.subtree_control")"

case "FILTER" in
  package* | cuts) ;;
  *) bash /payload/suite.sh ;;
esac
case "FILTER" in
  package | "")
    echo "vm: running package"
    . /payload/package.sh
    first_boot
    tell
    touch /var/lib/second-boot
    sync
    systemctl --no-block reboot
    ;;
  package::*)
    . /payload/package.sh
    first_boot 'FILTER'
    tell
    end
    ;;
  cuts) . /payload/cuts.sh ;;
  *) end ;;
esac
