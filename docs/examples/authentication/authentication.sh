#!/usr/bin/env bash
# Signing in: as a guest, with a new pair of tokens, with an account and its password; signing out.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

# A guest needs nothing. The access token is for requests, the refresh token for a new pair.
tokens=$(curl -s -X POST "$BASE_URL/auth/guest-login")
TOKEN=$(echo "$tokens" | get access_token)
expect "$(echo "$tokens" | get token_type)" Bearer

me=$(curl -s "$BASE_URL/auth/me" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$me" | get data.is_guest)" True
echo "signed in as guest $(echo "$me" | get data.id)"

# An access token lives for minutes. The refresh token buys a new pair, once.
tokens=$(curl -s "$BASE_URL/auth/refresh" -d "{\"refresh_token\": \"$(echo "$tokens" | get refresh_token)\"}")
TOKEN=$(echo "$tokens" | get access_token)
echo "refreshed, good for $(echo "$tokens" | get expires_in) s"

# A guest becomes an account and keeps its id, its conversations and its settings.
EMAIL=ann-$RANDOM$RANDOM@example.com
PASSWORD="correct horse battery"
upgraded=$(curl -s "$BASE_URL/auth/upgrade" -H "Authorization: Bearer $TOKEN" \
  -d "{\"email\": \"$EMAIL\", \"password\": \"$PASSWORD\", \"full_name\": \"Ann\"}")
expect "$(echo "$upgraded" | get status)" upgraded

tokens=$(curl -s "$BASE_URL/auth/login" -d "{\"email\": \"$EMAIL\", \"password\": \"$PASSWORD\"}")
expect "$(echo "$tokens" | get user_id)" "$(echo "$me" | get data.id)"
echo "logged in as $EMAIL, the same user as before"

wrong=$(curl -s "$BASE_URL/auth/login" -d "{\"email\": \"$EMAIL\", \"password\": \"wrong\"}")
expect "$(echo "$wrong" | get error.code)" invalid_credentials

# Signing out ends the session: its refresh token buys nothing any more.
REFRESH=$(echo "$tokens" | get refresh_token)
expect "$(curl -s "$BASE_URL/auth/revoke" -d "{\"refresh_token\": \"$REFRESH\"}" | get status)" revoked
expect "$(curl -s "$BASE_URL/auth/refresh" -d "{\"refresh_token\": \"$REFRESH\"}" | get error.code)" invalid_grant
expect "$(curl -s -o /dev/null -w '%{http_code}' "$BASE_URL/v1/models")" 401
echo "signed out"
