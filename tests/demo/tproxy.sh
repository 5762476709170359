# SPDX-License-Identifier: Apache-2.0
# tproxy, and the client's own address: proxify stands on a router, between a client and a server.
. tests/demo/stage.sh

server="proxify-demo-$$-server"
demo_take_down() { ip netns del "$server" 2>/dev/null || :; }

say 'A server behind this host, at 203.0.113.80, which names whoever calls:'
ip netns add "$server"
ip -n "$server" link set lo up
ip -n "$here" link add behind type veth peer name behind netns "$server"
ip -n "$here" addr add 203.0.113.1/24 dev behind
ip -n "$server" addr add 203.0.113.80/24 dev behind
ip -n "$here" link set behind up
ip -n "$server" link set behind up
ip -n "$server" route add default via 203.0.113.1
ip -n "$there" route add default via 198.51.100.1
nsenter --net="/run/netns/$here" sysctl -qw net.ipv4.ip_forward=1
nsenter --net="/run/netns/$server" "$echo_server" --name the-server --at 203.0.113.80 8080 >"$stage/server" 2>&1 &
started+=($!)

say 'proxify takes what passes through for port 8080, and dials from the address of the client:'
cat >"$stage/targets.toml" <<CONF
[admin]
socket = "$socket"
[[service]]
name        = "outbound"
targets     = ["original"]
transparent = true
[[capture]]
type    = "tproxy"
ports   = [15002]
service = "outbound"
CONF
sed 's/^/    /' "$stage/targets.toml"
start proxify "$proxify" -c "$stage/targets.toml"
await proxify ready
cat >"$stage/rules" <<RULES
table inet divert {
    chain prerouting {
        type filter hook prerouting priority mangle;
        meta l4proto tcp socket transparent 1 meta mark set 1 accept
        tcp dport 8080 tproxy to :15002 meta mark set 1 accept
    }
}
RULES
run nft -f "$stage/rules"
run ip rule add fwmark 1 lookup 100
run ip route add local 0.0.0.0/0 dev lo table 100

expect hello client sh -c 'echo hello | nc -N 203.0.113.80 8080'
show_sessions
say 'The server saw the client itself:'
await server '198.51.100.7'
sed 's/^/    /' "$stage/server"
