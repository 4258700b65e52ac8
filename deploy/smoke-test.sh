#!/usr/bin/env bash
# Whether a deployment does its job, seen from outside: deploy/smoke-test.sh https://feeds.example.com
# Ends with 1 and says what is wrong, after waiting up to 90 s for a service that is just starting.
set -euo pipefail

url="${1:?the address of the service, like https://feeds.example.com}"
url="${url%/}"
body="$(mktemp)"
trap 'rm -f "$body"' EXIT

# get PATH: the status in $status, the answer in the file $body.
get() {
    status="$(curl --silent --show-error --max-time 10 --output "$body" --write-out '%{http_code}' \
        "$url$1" 2>/dev/null || true)"
}

fail() {
    echo "FAIL $1" >&2
    head -c 500 "$body" >&2 || true
    echo >&2
    exit 1
}

wait_for() {
    for _ in $(seq 45); do
        get "$1"
        [ "$status" = 200 ] && { echo "ok   $1"; return; }
        sleep 2
    done
    fail "$1 answers ${status:-nothing} after 90 s"
}

wait_for /health
wait_for /ready

get /.well-known/did.json
grep -q '"BskyFeedGenerator"' "$body" || fail "/.well-known/did.json is not of a feed generator"
echo "ok   /.well-known/did.json"

get /xrpc/app.bsky.feed.describeFeedGenerator
feed="$(grep -o 'at://[^"]*' "$body" | head -n 1)"
[ -n "$feed" ] || fail "describeFeedGenerator names no feed"
echo "ok   describeFeedGenerator: $feed"

get "/xrpc/app.bsky.feed.getFeedSkeleton?feed=$feed"
[ "$status" = 401 ] || fail "a page without a token is answered with $status, and not with 401"
echo "ok   a page without a token is refused"

get /metrics
[ "$status" != 200 ] || fail "/metrics is open to everybody"
echo "ok   /metrics is closed"
