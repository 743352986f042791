# Sourced by the scripts that install Debian's packages, with `script`, the first word of what they print. They stand in
# the project's folder; apt's words go to var/log/$script.log.
mkdir -p var/log
log=$PWD/var/log/$script.log

say() { echo "$script: $*"; }
fail() { printf "$script: %s\n" "$@" >&2; exit 1; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # port
is_root_on_debian() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

install() { # packages
  local apt=(apt-get -y -qq -o DPkg::Lock::Timeout=300)
  say "installing $* (20 to 60 s; apt's words are in var/log/$script.log) ..."
  # C.UTF-8: PostgreSQL's first cluster takes its encoding from the locale of this call.
  export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
  # The package lists have a lock that apt does not wait for; and old lists are no reason to stop.
  { "${apt[@]}" update || { sleep 15 && "${apt[@]}" update; } || true; } >>"$log" 2>&1 </dev/null
  "${apt[@]}" install --no-install-recommends "$@" >>"$log" 2>&1 </dev/null || fail "apt-get install failed:" "$(tail -n 5 "$log")"
}
