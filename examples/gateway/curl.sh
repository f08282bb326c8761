#!/usr/bin/env bash
# A card payment's whole way over HTTP: authorize, capture, refund, and what the books say then.
#
#   tpcore serve --dev --data-dir /tmp/demo     # in another terminal; it prints a key
#   KEY=tp_... examples/gateway/curl.sh
#
# URL: where the server listens. RUN: makes the keys of this run its own, so that it can be run again.
set -euo pipefail
URL="${URL:-http://127.0.0.1:8700}"
KEY="${KEY:?the key that \`tpcore serve --dev\` printed}"
RUN="${RUN:-$(date +%s)-$$}"

# post PATH KEY-OF-THE-COMMAND BODY. The same key with the same body is the same command: curl may repeat it when the connection breaks,
# and when the server says that it is busy (429, 503).
post() {
    curl --silent --show-error --fail-with-body --max-time 15 --retry 5 --retry-connrefused "$URL$1" \
        --header "Authorization: Bearer $KEY" --header "Idempotency-Key: $RUN-$2" \
        --header 'Content-Type: application/json' --data "$3"
    echo
}
get() {
    curl --silent --show-error --fail-with-body --max-time 15 --retry 5 --retry-connrefused "$URL$1" \
        --header "Authorization: Bearer $KEY"
    echo
}
# member NAME: the text of a member, from a reply on standard input.
member() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

echo "# 25.00 EUR of account 1 are held for the merchant"
reply=$(post /v1/authorizations order '{"account":"1","amount":"2500","asset":"EUR","scale":2}')
echo "$reply"
authorization=$(echo "$reply" | member authorization)

echo "# asked again with the same key: the first reply, and nothing more is held"
post /v1/authorizations order '{"account":"1","amount":"2500","asset":"EUR","scale":2}'

echo "# the merchant, account 100, ships for 20.00: captured, the rest is released"
reply=$(post "/v1/authorizations/$authorization/captures" capture \
    '{"payee":"100","amount":"2000","asset":"EUR","scale":2,"is_final":true,"reference":"parcel 7"}')
echo "$reply"
capture=$(echo "$reply" | member transfer)

echo "# 5.00 of it go back"
post /v1/refunds refund "{\"capture\":\"$capture\",\"amount\":\"500\",\"asset\":\"EUR\",\"scale\":2}"

echo "# how it stands, and everything that happened to it"
get "/v1/authorizations/$authorization"
get "/v1/authorizations/$authorization/history"

echo "# the merchant's balances and the newest legs of account 1"
get /v1/accounts/100
get '/v1/accounts/1/statement?limit=3'
