#!/usr/bin/env bash
# Flower on loopback, with a password, for the workers of a running `make dev`. FLOWER_PASSWORD, FLOWER_PORT: your own.
# It switches the workers' task events on while it runs; nobody else reads them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. compose/native.env

password=${FLOWER_PASSWORD:-$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(12))')}
port=${FLOWER_PORT:-5555}
echo "flower: http://127.0.0.1:$port, user fintech, password $password"
# By the environment: arguments are shown to whoever lists processes.
export FLOWER_BASIC_AUTH="fintech:$password"
FLOWER_ADDRESS=127.0.0.1 FLOWER_PORT=$port exec compose/start.sh flower
