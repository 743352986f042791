#!/usr/bin/env bash
# Have promtool and amtool of newer Debians in var/prometheus-versions/SUITE, unpacked and not installed, for the tests of
# the files in prometheus/. What is not reached is said and left out. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=prometheus-versions
. compose/debian.sh

for suite in trixie testing; do
  folder=$PWD/var/prometheus-versions/$suite
  [ ! -e "$folder/usr/bin/amtool" ] || continue
  lists=$folder/apt
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$lists/sources.list"
  # Lists of its own: the machine's packages stay as they are. The machine's dpkg knows only what is installed here.
  apt=(apt-get -qq -o Dir::Etc::sourcelist="$lists/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o Dir::State::lists="$lists/lists" -o Dir::Cache="$lists/cache" -o Acquire::Languages=none -o Acquire::Retries=1)
  if command -v apt-get >/dev/null && "${apt[@]}" update >>"$log" 2>&1 &&
    (cd "$lists" && "${apt[@]}" download promtool prometheus-alertmanager) >>"$log" 2>&1; then
    for package in "$lists"/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" ./usr/bin; done
    say "$suite: $("$folder/usr/bin/promtool" --version 2>&1 | head -n 1), $("$folder/usr/bin/amtool" --version 2>&1 | head -n 1)"
  else
    say "$suite: not reached here, so prometheus/ is not checked by its promtool and amtool (var/log/$script.log)"
  fi
  rm -rf "$lists"
done
