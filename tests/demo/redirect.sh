# SPDX-License-Identifier: Apache-2.0
# redirect: rules of netfilter send connections to proxify, which sends them where they were going.
. tests/demo/stage.sh

say 'A service on port 8080 of 198.51.100.1, and proxify beside it:'
start service "$echo_server" --name the-real-service --at 198.51.100.1 8080
start proxify "$proxify" redirect --socket "$socket"
await proxify ready
await_listener 8080

say 'Nobody is redirected yet:'
expect hello client sh -c 'echo hello | nc -N 198.51.100.1 8080'

say 'Rules for port 8080, in a table of their own:'
run "$proxify" redirect rules add --ports 8080 --to 15002
run "$proxify" redirect rules show
expect hello client sh -c 'echo hello | nc -N 198.51.100.1 8080'
expect hello run sh -c 'echo hello | nc -N 198.51.100.1 8080'

say 'Both came by proxify, one from outside and one from this host:'
show_sessions

say 'Without the rules everything is as it was:'
run "$proxify" redirect rules remove
expect hello client sh -c 'echo hello | nc -N 198.51.100.1 8080'
run nft list ruleset
