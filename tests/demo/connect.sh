# SPDX-License-Identifier: Apache-2.0
# connect: what programs of a cgroup dial goes to another proxy, which asks for the original destination.
. tests/demo/stage.sh

cgroup=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)/proxify-demo-$$
mkdir "$cgroup"
demo_take_down() { rmdir "$cgroup" 2>/dev/null || :; }
# A program of the cgroup.
caught() {
    printf '    in the cgroup $ %s\n' "$*"
    nsenter --net="/run/netns/$here" sh -c "echo \$\$ >$cgroup/cgroup.procs && exec \"\$@\"" sh "$@" 2>&1 | sed 's/^/    /'
}

say 'A service at 198.51.100.1:8080, and a proxy at 127.0.0.1:8888 that knows one thing to say:'
start service "$echo_server" --name the-real-service --at 198.51.100.1 8080
start socat socat TCP-LISTEN:8888,fork,reuseaddr SYSTEM:'echo this is the proxy'
await_listener 8080
await_listener 8888
expect hello caught sh -c 'echo hello | nc -N 198.51.100.1 8080'

say 'What the cgroup dials at that address goes to the proxy:'
start proxify "$proxify" intercept --cgroup "$cgroup" --cidr 198.51.100.1:8080 --proxy 127.0.0.1:8888 --show-events --socket "$socket"
await proxify ready
expect 'this is the proxy' caught sh -c 'nc 198.51.100.1 8080 </dev/null'
expect hello run sh -c 'echo hello | nc -N 198.51.100.1 8080'
await proxify 198.51.100.1:8080
sed 's/^/    /' "$stage/proxify"

say 'And not once it has ended:'
stop_all
start service "$echo_server" --name the-real-service --at 198.51.100.1 8080
await_listener 8080
expect hello caught sh -c 'echo hello | nc -N 198.51.100.1 8080'
