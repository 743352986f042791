#!/bin/sh
# Starts one process of the system in place of this shell, so that it gets the signals itself: start.sh ROLE [OPTIONS]
# Containers and compose/Procfile both start from here.
# Celery: nobody revokes tasks or elects a leader, so workers need no talk with each other: without mingle (a second
# at each start) and gossip (each worker reading every other's events). Heartbeats stay, for whoever watches workers.
set -eu
cd "$(dirname "$0")/.."
[ ! -d .venv/bin ] || PATH=$PWD/.venv/bin:$PATH

# Prints 80 % of the container's memory in KiB, from where on a child is replaced; the default where nothing limits it,
# which version 1 of cgroups says by a number beyond any machine's memory.
cap() { # default in KiB
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || echo max)
  if [ "$limit" = max ] || [ "${#limit}" -gt 15 ]; then echo "$1"; else echo $((limit / 1024 * 8 / 10)); fi
}
worker() { # name, queues, processes, default cap in KiB, further options
  name=$1 queues=$2 processes=$3 kib=$(cap "$4")
  shift 4
  # Django's checks, whose findings Celery drops, import every page: 0.6 s of CPU and 12 MB. Whoever writes links into
  # messages needs them, and has them once in the main process instead of in each child.
  case $name in analyzer* | backtests) export CELERY_SKIP_CHECKS=true ;; esac
  set -- -n "$name@%h" -Q "$queues" -c "$processes" -P prefork --max-memory-per-child "$kib" "$@"
  exec celery -A fintech -q worker "$@" --without-mingle --without-gossip -l INFO
}

role=${1:-}
[ $# = 0 ] || shift
case $role in
  # The processes of web share files of their metrics, in a folder that begins empty.
  web)
    export PROMETHEUS_MULTIPROC_DIR="${PROMETHEUS_MULTIPROC_DIR:-/tmp/web-metrics}"
    rm -rf "$PROMETHEUS_MULTIPROC_DIR" && mkdir -p "$PROMETHEUS_MULTIPROC_DIR"
    set -- --workers "${WEB_PROCESSES:-2}" --threads "${WEB_THREADS:-4}" --worker-tmp-dir /dev/shm --no-control-socket "$@"
    exec gunicorn fintech.wsgi --bind "${WEB_LISTEN:-0.0.0.0:8000}" --worker-class fintech.web.WebWorker \
      --logger-class fintech.web.Logger "$@" ;;
  worker-watcher) worker watcher ticks,assets-tasks "${PROCESSES:-2}" 400000 --max-tasks-per-child 1000 "$@" ;;
  # It keeps its feeds' engines in memory: one process, replaced only far above what it should need.
  worker-analyzer)
    # A pod of a StatefulSet is its number: analyzer-2 evaluates shard 2.
    shard=${SHARD:-$(hostname | sed -n 's/.*-\([0-9][0-9]*\)$/\1/p')}
    worker "analyzer${shard:-0}" "analysis.${shard:-0}" 1 2000000 "$@" ;;
  worker-notifier) worker notifier notifications "${PROCESSES:-4}" 400000 --max-tasks-per-child 1000 "$@" ;;
  # Channels whose last try failed; the hanging ones hold up each other there, and none that works.
  worker-retries) worker retries retries "${PROCESSES:-2}" 400000 --max-tasks-per-child 1000 "$@" ;;
  # One at a time, and after everything else; a long one must not keep prices from being evaluated.
  worker-backtests)
    renice -n 10 -p $$ >/dev/null 2>&1 || true
    worker backtests backtests 1 400000 --max-tasks-per-child 20 "$@" ;;
  live) exec python manage.py live --listen "${LIVE_LISTEN:-0.0.0.0:8100}" "$@" ;;
  # One of it, so that quotes of a feed keep their order; it needs no Celery.
  ingest) exec python manage.py ingest "$@" ;;
  metrics) exec python manage.py metrics "$@" ;;
  beat) export CELERY_SKIP_CHECKS=true && exec celery -A fintech -q beat --pidfile= -l INFO "$@" ;;
  # FLOWER_BASIC_AUTH, user:password, by the environment: arguments are shown to whoever lists processes.
  flower) export CELERY_SKIP_CHECKS=true && exec celery -A fintech -q flower --address="${FLOWER_ADDRESS:-0.0.0.0}" --port="${FLOWER_PORT:-5555}" "$@" ;;
  migrate) exec python manage.py migrate --no-input "$@" ;;
  manage) exec python manage.py "$@" ;;
  *)
    echo "start.sh: '$role' is no role; name one of web, live, worker-watcher, worker-analyzer, worker-notifier, worker-retries," \
      "worker-backtests, ingest, metrics, beat, flower, migrate, manage" >&2
    exit 2 ;;
esac
