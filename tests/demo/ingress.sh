# SPDX-License-Identifier: Apache-2.0
# ingress: what other hosts send to port 8000 meets the proxy on port 9000, which asks the real server.
. tests/demo/stage.sh

say 'A web server on port 8000, and a proxy on port 9000 that adds a header:'
cat >"$stage/nginx.conf" <<CONF
daemon off; pid $stage/nginx.pid; error_log stderr crit; worker_processes 1;
events { worker_connections 100; }
http {
    access_log off;
    server { listen 8000; location / { return 200 "Hi\n"; } }
    server { listen 9000; location / { proxy_pass http://127.0.0.1:8000; add_header X-Interceptor proxify; } }
}
CONF
start nginx nginx -e stderr -c "$stage/nginx.conf"
await_listener 9000
expect Hi client curl -sS -D - http://198.51.100.1:8000/

say 'Port 8000 leads to port 9000, where packets come in:'
start proxify "$proxify" ingress --map 8000:9000 --socket "$socket"
await proxify ready
expect 'X-Interceptor: proxify' client curl -sS -D - http://198.51.100.1:8000/

say 'Not so on the host itself:'
lacks X-Interceptor run curl -sS -D - http://127.0.0.1:8000/

say 'What the kernel has, and that it has nothing once proxify has ended:'
expect proxify run bpftool net show dev cable
stop_all
lacks proxify run bpftool net show dev cable
