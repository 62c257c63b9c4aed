#!/usr/bin/env bash
# Usage: how many requests and tokens a user has needed, by day, model, project or API key.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

for number in 1 2; do
  curl -sf -o /dev/null "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
    -d "{\"model\": \"$MODEL\", \"messages\": [{\"role\": \"user\", \"content\": \"Say $number.\"}]}"
done

# An answer is counted about a second after its end.
for attempt in $(seq 50); do
  usage=$(curl -s "$BASE_URL/v1/usage/me?group_by=model" -H "Authorization: Bearer $TOKEN")
  [ "$(echo "$usage" | get data.requests)" = 2 ] && break
  sleep 0.1
done
expect "$(echo "$usage" | get data.requests)" 2
expect "$(echo "$usage" | get data.groups.0.key)" "$MODEL"
echo "2 requests to $MODEL took $(echo "$usage" | get data.total_tokens) tokens"

# Any period, in dates (the last day is included) or RFC 3339 times; without one it is the last 30 days.
TODAY=$(date -u +%F)
usage=$(curl -s "$BASE_URL/v1/usage/me?from=$TODAY&to=$TODAY&group_by=day" -H "Authorization: Bearer $TOKEN")
echo "of these today: $(echo "$usage" | get data.prompt_tokens) asked, $(echo "$usage" | get data.completion_tokens) answered"

before=$(curl -s "$BASE_URL/v1/usage/me?from=2020-01-01&to=2020-01-31" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$before" | get data.total_tokens)" 0

refused=$(curl -s "$BASE_URL/v1/usage/me?group_by=colour" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$refused" | get error.param)" group_by
