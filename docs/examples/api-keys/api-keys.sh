#!/usr/bin/env bash
# API keys: made, used by programs, limited to reading, listed, revoked.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

# The key itself is shown this once.
made=$(curl -s "$BASE_URL/auth/api-keys" -H "Authorization: Bearer $TOKEN" \
  -d '{"name": "nightly job", "expires_in_days": 30}')
KEY=$(echo "$made" | get data.key)
KEY_ID=$(echo "$made" | get data.id)
echo "made $(echo "$made" | get data.prefix)...$(echo "$made" | get data.suffix)"

# It is sent in a header of its own, or where OpenAI's clients send theirs.
expect "$(curl -s "$BASE_URL/auth/me" -H "X-API-Key: $KEY" | get data.auth_method)" api_key
answer=$(curl -s "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $KEY" \
  -d "{\"model\": \"$MODEL\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}")
expect "$(echo "$answer" | get choices.0.finish_reason)" stop
echo "it may chat"

# A key that can only read.
READER=$(curl -s "$BASE_URL/auth/api-keys" -H "Authorization: Bearer $TOKEN" \
  -d '{"name": "dashboard", "scopes": ["read"]}' | get data.key)
expect "$(curl -s "$BASE_URL/v1/conversations" -H "X-API-Key: $READER" | get object)" list
refused=$(curl -s -X POST "$BASE_URL/v1/conversations" -H "X-API-Key: $READER")
expect "$(echo "$refused" | get error.code)" insufficient_scope
echo "a reader may not write"

# Keys are made, listed and revoked with a token, not with a key. Lists never show the key.
keys=$(curl -s "$BASE_URL/auth/api-keys" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$keys" | get total_count)" 2

curl -sf -X DELETE "$BASE_URL/auth/api-keys/$KEY_ID" -H "Authorization: Bearer $TOKEN"
expect "$(curl -s "$BASE_URL/v1/models" -H "X-API-Key: $KEY" | get error.code)" unauthorized
echo "revoked"
