#!/usr/bin/env bash
# `make compose-test`: builds our images, starts everything that compose/docker-compose.yml says, and tries it. As root on
# Debian it starts a Docker engine where none runs, and stops it again. Where there can be none it says so, and ends well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
script=compose-test
. compose/debian.sh
here=tests/compose

if ! docker info >/dev/null 2>&1; then
  if ! is_root_on_debian; then
    say "left out: no Docker engine runs, and none can be started here"
    exit 0
  fi
  say "starting a Docker engine ..."
  if ! "$here/stand-ins/docker-up" >>"$log" 2>&1; then
    say "left out: no Docker engine can be started here (details in var/log/$script.log)"
    exit 0
  fi
  trap 'kill "$(cat /var/run/docker.pid)"' EXIT
fi

# The images of others: those that are there, else those of the registry, else stand-ins out of Debian's packages.
mapfile -t images < <(
  sed -n 's/^ARG \(PYTHON\|NODE\)=//p' compose/Dockerfile
  sed -n 's/^FROM //p' compose/celery-exporter/Dockerfile
  python3 compose/environment.py var/compose-test.env >/dev/null
  COMPOSE_FILE=compose/docker-compose.yml docker compose --env-file var/compose-test.env --profile observability config --images |
    grep -v '^fake-fintech-'
  rm -f var/compose-test.env
)
is_of_others() {
  local environment
  environment=$(docker image inspect -f '{{.Config.Env}}' "$1" 2>/dev/null) && [[ $environment != *PIP_CERT=* ]]
}
for image in "${images[@]}"; do
  is_of_others "$image" || [ -n "${is_alone:-}" ] || docker pull -q "$image" >>"$log" 2>&1 || is_alone=1
done
if [ -n "${is_alone:-}" ] && [[ "${images[*]}" == *@sha256:* ]]; then
  say "left out: no registry of images is reached, and stand-ins have other digests than the files ask for"
  exit 0
fi
if [ -n "${is_alone:-}" ]; then
  say "no registry of images is reached: building stand-ins ..."
  "$here/stand-ins/images" "${images[@]}" 2>>"$log"
fi
# Also where the stand-ins of an earlier run are there: what has none is missing.
docker image inspect "$(printf '%s\n' "${images[@]}" | grep ^grafana/grafana:)" >/dev/null 2>&1 || export COMPOSE_TEST_STAND_INS=1
say "building our images ..."
export DOCKER_BUILDKIT=0
docker build -q --network host -f compose/Dockerfile -t fake-fintech-oss:local . >>"$log" 2>&1 ||
  fail "the image cannot be built:" "$(tail -n 10 "$log")"
docker build -q --network host -t fake-fintech-celery-exporter:local compose/celery-exporter >>"$log" 2>&1 ||
  fail "the image of celery-exporter cannot be built:" "$(tail -n 10 "$log")"
say "the image has $(docker image inspect -f '{{.Size}}' fake-fintech-oss:local | awk '{printf "%d", $1 / 1e6}') MB"
COMPOSE_TEST=1 .venv/bin/pytest -q -p no:cacheprovider "$here/test_containers.py" "$@"
