#!/usr/bin/env bash
# Make sure that there is a Chromium for the browser tests. CHROMIUM names one; otherwise, as root on Debian, it is
# installed from Debian's packages. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=browser
. compose/debian.sh

if [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then exit 0; fi
if [ -n "${CHROMIUM:-}" ]; then fail "CHROMIUM is not a program that can be run."; fi
is_root_on_debian || fail "the browser tests need Chromium: install it, or set CHROMIUM to where it is."
install chromium
