#!/usr/bin/env bash
# Make sure that PostgreSQL, RabbitMQ and Redis are there for development and tests, on loopback only.
# What already listens on its port is used. Otherwise, as root on Debian, it is installed from Debian's packages and
# started without systemd. A second run changes nothing. A service whose variable points elsewhere is left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One run at a time. --close: the servers started below must not inherit the lock and keep it.
mkdir -p var/log
if [ -z "${SERVICES_LOCKED:-}" ] && command -v flock >/dev/null; then
  SERVICES_LOCKED=1 exec flock --close var/services.lock compose/services.sh
fi

python=.venv/bin/python
script=services
. compose/debian.sh
# The last four are those of the processes of pytest-xdist, by their names.
vhosts=(fintech fintech_test fintech_test_gw{0..3})

# RabbitMQ is told by the environment: nothing in /etc is touched. Exported here since its package may start it too.
# The node has a name of its own, because the machine's name may resolve to an address on which it does not listen.
export RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} -rabbit disk_free_limit 1000000000 -rabbitmq_prometheus tcp_config [{ip,{127,0,0,1}},{port,15692}]"

# <service>_start: start what Debian installed. <service>_login: do what the application does, succeed if it may.
# <service>_grant: as the server's administrator, give the application what it needs.
postgres_start() (
  cluster=$(pg_lsclusters -h | awk '$3 == 5432 {print $1, $2; exit}')
  if [ -z "$cluster" ]; then
    cluster="$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1) main"
    # shellcheck disable=SC2086 # Two words are meant: version and name.
    pg_createcluster --port 5432 --locale C.UTF-8 $cluster
  fi
  # shellcheck disable=SC2086
  pg_ctlcluster --skip-systemctl-redirect $cluster start
)
postgres_login() {
  "$python" - <<'PY'
import psycopg
with psycopg.connect("postgres://fintech:fintech@127.0.0.1:5432/fintech", connect_timeout=5) as connection:
    role = connection.execute("SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
    assert role == (True,), "The role fintech may not create databases."
    dashboards = connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'grafana' AND pg_has_role(oid, 'MEMBER')")
    assert dashboards.fetchone() == (1,), "There is no role grafana, or fintech is no member of it."
PY
}
postgres_grant() (
  cd / && runuser -u postgres -- psql -qAtX -p 5432 -v ON_ERROR_STOP=1 <<'SQL'
SELECT 'CREATE ROLE fintech' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fintech') \gexec
ALTER ROLE fintech LOGIN CREATEDB PASSWORD 'fintech';
SELECT 'CREATE ROLE grafana' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana LOGIN PASSWORD 'grafana' CONNECTION LIMIT 10;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '10s';
GRANT grafana TO fintech;
SELECT 'CREATE DATABASE fintech OWNER fintech' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fintech') \gexec
SQL
)

rabbitmq_start() (
  ulimit -n 65536 || true # More is only for many connections.
  cd / && rabbitmq-server -detached || exit 1
  # await_startup gives up at once while the node has not yet told its name to epmd, whatever its time limit.
  deadline=$((SECONDS + 90))
  until rabbitmqctl await_startup --timeout 60; do
    if [ $SECONDS -ge $deadline ]; then exit 1; else sleep 1; fi
  done
)
rabbitmq_login() {
  "$python" - "${vhosts[@]}" <<'PY'
import sys
from amqp import Connection
for vhost in sys.argv[1:]:
    with Connection("127.0.0.1:5672", "fintech", "fintech", virtual_host=vhost, connect_timeout=5, read_timeout=5) as connection:
        connection.channel().queue_declare(exclusive=True)
PY
}
rabbitmq_grant() (
  cd /
  # Where it was not started here, the node has its default name.
  for node in "$RABBITMQ_NODENAME" "rabbit@$(hostname -s)"; do
    rabbitmqctl -q -n "$node" add_user fintech fintech || rabbitmqctl -q -n "$node" change_password fintech fintech || continue
    for vhost in "${vhosts[@]}"; do
      rabbitmqctl -q -n "$node" add_vhost "$vhost" || true # It may be there.
      rabbitmqctl -q -n "$node" set_permissions -p "$vhost" fintech '.*' '.*' '.*'
    done
    break
  done
)

# Not as root: whoever reaches the port could write files with Redis's rights.
redis_start() (
  cd / && runuser -u redis -- redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --dir /var/lib/redis --save "" --appendonly no
)
redis_login() { "$python" -c 'import redis; redis.Redis(host="127.0.0.1", port=6379, socket_timeout=5).ping()'; }
redis_grant() { false; }

[ -x "$python" ] || fail "there is no $python yet: run 'make venv-dev' first."

# service, name, port, Debian's package, its program, the variable, and what the server must let the application do
managed=() packages=() absent=()
while IFS='|' read -r service name port package program variable needs; do
  case "${!variable:-}" in
    "" | *://127.0.0.1:"$port" | *://127.0.0.1:"$port"/* | *://fintech:fintech@127.0.0.1:"$port"/*) ;;
    *) say "$name is left alone: $variable points elsewhere." && continue ;;
  esac
  managed+=("$service|$name|$port|$variable|$needs")
  if listens "$port"; then continue; fi
  absent+=("$name does not listen on 127.0.0.1:$port. Start it there, or set $variable to where it is.")
  if ! compgen -G "$program" >/dev/null; then packages+=("$package"); fi
done <<END
postgres|PostgreSQL|5432|postgresql|/usr/lib/postgresql/*/bin/postgres|DATABASE_URL|role and database fintech, password fintech, CREATEDB; role grafana, granted to fintech
rabbitmq|RabbitMQ|5672|rabbitmq-server|/usr/sbin/rabbitmq-server|CELERY_BROKER_URL|user fintech, password fintech, all permissions in the vhosts ${vhosts[*]}
redis|Redis|6379|redis-server|/usr/bin/redis-server|REDIS_URL|no password
END

if [ ${#absent[@]} -gt 0 ] && ! is_root_on_debian; then
  fail "${absent[@]}" "(Only as root on Debian are they installed and started from here.)"
fi
if [ ${#packages[@]} -gt 0 ]; then install "${packages[@]}"; fi

for entry in ${managed[@]+"${managed[@]}"}; do
  IFS='|' read -r service name port variable needs <<<"$entry"
  if ! listens "$port"; then
    say "starting $name ..."
    # Again where it fails: a server that was killed a moment ago may still hold its lock file.
    for wait in 1 2 5 10 stop; do
      if "${service}_start" >>"$log" 2>&1 </dev/null; then break; fi
      if [ $wait = stop ]; then fail "$name did not start; the last lines of $log:" "$(tail -n 25 "$log")"; fi
      sleep $wait
    done
    for _ in {1..150}; do if listens "$port"; then break; else sleep 0.2; fi; done
    listens "$port" || fail "$name was started but does not listen on 127.0.0.1:$port; see $log."
  fi
  if ! "${service}_login" >>"$log" 2>&1; then
    say "setting up $name for the project ..."
    "${service}_grant" >>"$log" 2>&1 || true # Whether it worked is seen at the next login.
    "${service}_login" >>"$log" 2>&1 ||
      fail "$name listens on 127.0.0.1:$port but does not let the project in, and cannot be set up from here." \
        "It needs: $needs. Or set $variable to a server that fits. Details: $log"
  fi
done

for entry in ${managed[@]+"${managed[@]}"}; do
  IFS='|' read -r service name port _ <<<"$entry"
  say "$(printf '%-10s 127.0.0.1:%s' "$name" "$port")"
done
