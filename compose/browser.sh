#!/usr/bin/env bash
# Make sure that there is a Chromium for the browser tests. CHROMIUM names one; otherwise, as root on Debian, it is
# installed from Debian's packages. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then exit 0; fi
if [ -n "${CHROMIUM:-}" ]; then echo "browser: CHROMIUM is not a program that can be run." >&2 && exit 1; fi
if [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
  echo "browser: the browser tests need Chromium: install it, or set CHROMIUM to where it is." >&2 && exit 1
fi

mkdir -p var/log
log=$PWD/var/log/browser.log
echo "browser: installing chromium (20 to 60 s; apt's words are in var/log/browser.log) ..."
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
apt=(apt-get -y -qq -o DPkg::Lock::Timeout=300)
{ "${apt[@]}" update || { sleep 15 && "${apt[@]}" update; } || true; } >"$log" 2>&1 </dev/null
"${apt[@]}" install --no-install-recommends chromium >>"$log" 2>&1 </dev/null ||
  { printf '%s\n' "browser: apt-get install failed:" "$(tail -n 15 "$log")" >&2 && exit 1; }
