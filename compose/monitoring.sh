#!/usr/bin/env bash
# Make sure that the programs of Prometheus, Alertmanager and three exporters are there, and that RabbitMQ gives metrics.
# As root on Debian they are installed from Debian's packages. A second run changes nothing.
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
if [ ${#missing[@]} != 0 ]; then
  is_root_on_debian ||
    fail "${missing[*]} are not on the PATH: install Prometheus (2.42 or later), Alertmanager (0.25 or later) and these exporters."
  install "${packages[@]}"
fi

# RabbitMQ gives its metrics by a plugin of its own, which is switched on while it runs; the address is as in services.sh.
plugin=rabbitmq_prometheus
if ! listens 15692; then
  { is_root_on_debian && command -v rabbitmqctl >/dev/null; } ||
    fail "RabbitMQ gives no metrics on 127.0.0.1:15692: run 'rabbitmq-plugins enable $plugin' on its machine."
  for node in rabbit@localhost "rabbit@$(hostname -s)"; do
    on_loopback="application:set_env($plugin, tcp_config, [{ip, {127,0,0,1}}, {port, 15692}], [{persistent, true}])."
    (cd / && rabbitmqctl -q -n "$node" eval "$on_loopback" && rabbitmq-plugins -q -n "$node" enable $plugin) >/dev/null || continue
    break
  done
  listens 15692 || fail "RabbitMQ's plugin $plugin could not be enabled. Is RabbitMQ running? 'make services' starts it."
fi
