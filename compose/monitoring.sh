#!/usr/bin/env bash
# Make sure that the programs of Prometheus, Alertmanager and three exporters are there. As root on Debian they are
# installed from Debian's packages; nothing is started. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=monitoring
. compose/debian.sh

packages=(
  prometheus prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter prometheus-redis-exporter
)
missing=()
for program in "${packages[@]}" promtool amtool; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi
is_root_on_debian ||
  fail "${missing[*]} are not on the PATH: install Prometheus (2.42 or later), Alertmanager (0.25 or later) and these exporters."
install "${packages[@]}"
