# What comes before the first power cut: the package with modules that are required, and whoever asks for them from the moment the
# machine starts. After a cut cuts.py does the rest.
. /payload/package.sh
requires_modules() {
  mortise install $packages/markdown-2
  printf '[readiness]\nmodules = ["site", "spell", "markdown"]\nwithin = "5m"\n' > /etc/mortise/mortise.toml.d/50-cuts.toml
  systemctl restart mortised
  cat > /etc/systemd/system/ask.service << 'UNIT'
[Unit]
RequiresMountsFor=/payload
[Service]
ExecStart=/usr/bin/python3 -u /payload/ask.py
StandardOutput=file:/run/asked
[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable ask.service
  if [ -e /payload/without_sync.so ]; then
    mkdir -p /etc/systemd/system/mortised.service.d
    printf '[Service]\nEnvironment=LD_PRELOAD=/payload/without_sync.so\n' > /etc/systemd/system/mortised.service.d/50-sync.conf
    systemctl daemon-reload
    systemctl restart mortised
  fi
  touch /var/lib/cuts
  sync
}
for it in installs starts runs_the_tour requires_modules; do step $it; done
tell
[ $failed = 0 ] || { end; exit; }
exec python3 -u /payload/cuts.py
