#!/usr/bin/env bash
# Starts each peer on a free port, requests each route, checks the responses, and stops the peer by its process id.
# Build the peers first: `cargo build --release -p 'peer-*'` in benches/. An argument is the command of another server to
# check instead, with {port} in it:
#
#   benches/peers/check.sh 'target/release/demo --bind 127.0.0.1:{port}'
set -euo pipefail
here=$(dirname "$0")
work=$(mktemp -d)
pid=
failed=0
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

free_port() {
    local port=$((20000 + RANDOM % 20000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((20000 + RANDOM % 20000)); done
    echo "$port"
}

ask() { curl --silent --max-time 10 --header 'Expect:' --dump-header "$work/head" --output "$work/body" "$@"; }

fail() {
    echo "FAILED: $name: $1" >&2
    failed=1
}

# expect STATUS CURL-ARGUMENTS...: checks the status, and that the body equals $work/expected.
expect() {
    local status=$1
    shift
    ask "$@" || fail "no response: $*"
    grep -q "^HTTP/1.1 $status " "$work/head" || fail "not $status: $* $(head -1 "$work/head")"
    cmp -s "$work/body" "$work/expected" || fail "unexpected body: $*"
}

# has FIELD VALUE: checks a field of the last response, ignoring white space and case.
has() {
    local value
    value=$(tr -d '\r' <"$work/head" | sed -n "s/^$1: *//Ip" | tr -d ' ')
    [[ ${value,,} == $2 ]] || fail "$1 is '$value', not '$2'"
}

# text TEXT PATH [TYPE]: checks the body and that the response has the four common fields and no others.
text() {
    printf %s "$1" >"$work/expected"
    expect 200 "$url$2"
    has Content-Type "${3:-text/plain;charset=utf-8}"
    has Content-Length "${#1}"
    has Server '?*'
    has Date '*gmt'
    [[ $(grep -c : "$work/head") = 4 ]] || fail "unexpected fields: $(tr -d '\r' <"$work/head")"
}

routes() {
    text '{"message":"Hello, World!"}' /json application/json
    text ok /sleep/20
    printf 'ms is 60000 at most' >"$work/expected"
    expect 400 "$url/sleep/60001"
    seq 200000 >"$work/expected"
    expect 200 --header 'Content-Type: text/x-any' --data-binary "@$work/expected" "$url/echo"
    has Content-Type text/x-any
    has Content-Length "$(stat -c %s "$work/expected")"
    expect 200 --header 'Transfer-Encoding: chunked' --data-binary "@$work/expected" "$url/echo"
    ask "$url/nowhere"
    grep -q '^HTTP/1.1 404 ' "$work/head" || fail "not 404: $(head -1 "$work/head")"
}

# check NAME COMMAND...
check() {
    local port
    name=$1
    port=$(free_port)
    url=http://127.0.0.1:$port
    shift
    "${@//'{port}'/$port}" 2>"$work/log" &
    pid=$!
    for _ in $(seq 200); do
        ask "$url/plaintext" && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    text 'Hello, World!' /plaintext
    [[ $name = floor ]] || routes
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    echo "$name: checked"
}

if (($#)); then
    read -ra command <<<"$1"
    check "${command[0]}" "${command[@]}"
else
    for peer in hyper axum actix-web tiny_http floor; do
        check "$peer" "$here/../target/release/$peer" '{port}'
    done
fi
exit "$failed"
