#!/usr/bin/env bash
# A RabbitMQ of its own for the tests: private node name, ports, folders and cookie, on the loopback address only.
#
#   tests/services/rabbitmq.sh start FOLDER [PORT]   starts it in the background, waits until it answers, and writes to FOLDER:
#                                             pid, env (variables of the tests), log; it speaks TLS too, with ca.pem
#   tests/services/rabbitmq.sh stop FOLDER    stops it by its process id
#
# FOLDER keeps its data: started again there, it has what it had. Needs the Debian packages rabbitmq-server and openssl.
set -euo pipefail
lib=$(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-* 2>/dev/null | tail -n 1 || true)
[[ -n $lib ]] || { echo "rabbitmq.sh: RabbitMQ is missing; install the package rabbitmq-server" >&2; exit 1; }
verb=${1:?start or stop} folder=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)

free_ports() {
    python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PY
}

# end PID: asks it to end, and makes it after ten seconds.
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 1 100); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
}

# A certificate for localhost and 127.0.0.1 by an authority of its own: ca.pem, server.pem, server.key.
certificates() {
    local made="$folder/tls"
    mkdir -p "$made"
    (
        cd "$made"
        exec 2>openssl.log
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout ca.key -out ca.pem \
            -subj "/CN=authority of a test" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.pem
    ) || { cat "$made/openssl.log" >&2; echo "rabbitmq.sh: no certificate could be made; install the package openssl" >&2; exit 1; }
}

stop() {
    local file
    for file in "$folder/pid" "$folder/epmd.pid"; do
        [[ ! -s $file ]] || end "$(cat "$file")"
        rm -f "$file"
    done
}

start() {
    if [[ ! -e $folder/ports ]]; then
        free_ports 8 >"$folder/ports"
        certificates
        head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/cookie"
        head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/password"
    fi
    local amqp management stomp web dist mapper stomps managements password node
    read -r amqp management stomp web dist mapper stomps managements <"$folder/ports"
    password=$(cat "$folder/password")
    node="sluice-$amqp@localhost"
    mkdir -p "$folder/mnesia" "$folder/logs"
    cat >"$folder/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp
management.tcp.ip = 127.0.0.1
management.tcp.port = $management
stomp.listeners.tcp.1 = 127.0.0.1:$stomp
stomp.listeners.ssl.1 = 127.0.0.1:$stomps
ssl_options.cacertfile = $folder/tls/ca.pem
ssl_options.certfile = $folder/tls/server.pem
ssl_options.keyfile = $folder/tls/server.key
management.ssl.ip = 127.0.0.1
management.ssl.port = $managements
management.ssl.cacertfile = $folder/tls/ca.pem
management.ssl.certfile = $folder/tls/server.pem
management.ssl.keyfile = $folder/tls/server.key
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = $web
default_user = sluice-tests
default_pass = $password
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
CONF
    echo '[rabbitmq_management, rabbitmq_stomp, rabbitmq_web_stomp].' >"$folder/enabled_plugins"
    rm -f "$folder/pid"
    env HOME="$folder" RABBITMQ_NODENAME="$node" RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/logs" \
        RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ADVANCED_CONFIG_FILE="$folder/none" RABBITMQ_DIST_PORT="$dist" RABBITMQ_PID_FILE="$folder/pid" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$mapper" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-setcookie $(cat "$folder/cookie") -kernel inet_dist_use_interface {127,0,0,1}" \
        setsid "$lib/sbin/rabbitmq-server" >"$folder/log" 2>&1 &
    local starter=$!
    cat >"$folder/env" <<ENV
SLUICE_TEST_RABBITMQ=$folder
SLUICE_TEST_RABBITMQ_MANAGEMENT=http://127.0.0.1:$management
SLUICE_TEST_RABBITMQ_STOMP_PORT=$stomp
SLUICE_TEST_RABBITMQ_WEB_PORT=$web
SLUICE_TEST_RABBITMQ_TLS_MANAGEMENT=https://127.0.0.1:$managements
SLUICE_TEST_RABBITMQ_TLS_STOMP_PORT=$stomps
SLUICE_TEST_RABBITMQ_TLS_CA=$folder/tls/ca.pem
SLUICE_TEST_RABBITMQ_USER=sluice-tests
SLUICE_TEST_RABBITMQ_PASSWORD=$password
ENV
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        if curl -fsS -o /dev/null -u "sluice-tests:$password" "http://127.0.0.1:$management/api/overview" 2>/dev/null \
            && (exec 3<>"/dev/tcp/127.0.0.1/$stomp") 2>/dev/null && (exec 3<>"/dev/tcp/127.0.0.1/$web") 2>/dev/null \
            && (exec 3<>"/dev/tcp/127.0.0.1/$stomps") 2>/dev/null && (exec 3<>"/dev/tcp/127.0.0.1/$managements") 2>/dev/null; then
            # The port mapper that the node started for itself ends with it.
            ss -ltnpH "sport = :$mapper" | grep -oE 'pid=[0-9]+' | head -n 1 | cut -d= -f2 >"$folder/epmd.pid" || true
            return 0
        fi
        kill -0 "$starter" 2>/dev/null || { cat "$folder/log" >&2; echo "rabbitmq.sh: it ended" >&2; exit 1; }
        sleep 0.2
    done
    cat "$folder/log" >&2
    echo "rabbitmq.sh: it does not answer" >&2
    exit 1
}

case $verb in
    start) start ;;
    stop) stop ;;
    *) echo "rabbitmq.sh: start or stop, and not $verb" >&2; exit 2 ;;
esac
