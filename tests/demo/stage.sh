# SPDX-License-Identifier: Apache-2.0
#
# What the demonstrations share: two hosts that are network namespaces, joined by a cable, and a way to show each command
# before it is run. Sourced with the repository as the current directory, by root, and run as
# `./dev demo NAME`. Whatever happens, everything is taken down again.

set -euo pipefail

stage=$(mktemp -d /tmp/proxify-demo-XXXXXX)
here="proxify-demo-$$" there="proxify-demo-$$-client"
started=()

say() { printf '\n%s\n' "$*"; }

# nsenter and not `ip netns exec`, which hides the cgroups.
#
# Shows a command and runs it on the host where proxify is; `client` runs one on the other.
run() {
    printf '    $ %s\n' "$*"
    nsenter --net="/run/netns/$here" "$@" 2>&1 | sed 's/^/    /'
}
client() {
    printf '    client $ %s\n' "$*"
    nsenter --net="/run/netns/$there" "$@" 2>&1 | sed 's/^/    /'
}

# start NAME COMMAND...: in the background; what it prints goes to $stage/NAME.
start() {
    local name=$1
    shift
    printf '    $ %s &\n' "$*"
    nsenter --net="/run/netns/$here" "$@" >"$stage/$name" 2>&1 &
    started+=($!)
}

# await NAME TEXT: until the output of a command has the text, for ten seconds at most.
await() {
    for _ in $(seq 200); do
        ! grep -q "$2" "$stage/$1" || return 0
        sleep 0.05
    done
    echo "\"$2\" never came from $1, which said:" >&2
    cat "$stage/$1" >&2
    return 1
}

# await_listener PORT
await_listener() {
    for _ in $(seq 200); do
        [ -z "$(nsenter --net="/run/netns/$here" ss -Hltn "sport = :$1")" ] || return 0
        sleep 0.05
    done
    echo "nobody listens on port $1" >&2
    return 1
}

# expect TEXT COMMAND...: runs it shown, and fails when what it prints lacks the text.
expect() {
    local text=$1
    shift
    "$@" | tee "$stage/said"
    grep -q -- "$text" "$stage/said" || { echo "expected \"$text\"" >&2; return 1; }
}

# lacks TEXT COMMAND...: the reverse.
lacks() {
    local text=$1
    shift
    "$@" | tee "$stage/said"
    ! grep -q -- "$text" "$stage/said" || { echo "did not expect \"$text\"" >&2; return 1; }
}

# The log lines of sessions that proxify has written since the last look.
seen=0
show_sessions() {
    await proxify 'session .*ending='
    for _ in $(seq 100); do
        [ "$(grep -c ' session ' "$stage/proxify")" -le "$seen" ] || break
        sleep 0.05
    done
    grep ' session ' "$stage/proxify" | tail -n +$((seen + 1)) | sed 's/^/    /'
    seen=$(grep -c ' session ' "$stage/proxify")
}

stop_all() {
    local pid
    for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || :; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || :; done
    started=()
}

take_down() {
    stop_all
    ! declare -F demo_take_down >/dev/null || demo_take_down
    ip netns del "$there" 2>/dev/null || :
    ip netns del "$here" 2>/dev/null || :
    rm -rf "$stage"
}
trap take_down EXIT
trap 'exit 130' INT TERM

set_up() {
    ip netns add "$here"
    ip netns add "$there"
    ip -n "$here" link set lo up
    ip -n "$there" link set lo up
    ip -n "$here" link add cable type veth peer name cable netns "$there"
    ip -n "$here" addr add 198.51.100.1/24 dev cable
    ip -n "$there" addr add 198.51.100.7/24 dev cable
    ip -n "$here" link set cable up
    ip -n "$there" link set cable up
}

proxify=${PROXIFY:-$PWD/proxify} echo_server=${ECHO_SERVER:-$PWD/build/tests/echo}
socket=$stage/admin.sock
set_up
