#!/usr/bin/env bash
# Make sure that the programs of Prometheus, Alertmanager and three exporters are there. As root on Debian they are installed from Debian's
# packages; nothing is started. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(prometheus prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter prometheus-redis-exporter)
missing=()
for program in "${packages[@]}" promtool amtool; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
  echo "monitoring: ${missing[*]} are not on the PATH: install Prometheus (2.42 or later), Alertmanager (0.25 or later) and these exporters." >&2 && exit 1
fi

mkdir -p var/log
log=$PWD/var/log/monitoring.log
echo "monitoring: installing ${missing[*]} (20 to 60 s; apt's words are in var/log/monitoring.log) ..."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
apt=(apt-get -y -qq -o DPkg::Lock::Timeout=300)
{ "${apt[@]}" update || { sleep 15 && "${apt[@]}" update; } || true; } >"$log" 2>&1 </dev/null
"${apt[@]}" install --no-install-recommends "${packages[@]}" >>"$log" 2>&1 </dev/null ||
  { printf '%s\n' "monitoring: apt-get install failed:" "$(tail -n 15 "$log")" >&2 && exit 1; }
