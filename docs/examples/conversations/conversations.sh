#!/usr/bin/env bash
# Conversations: made, read, listed page by page, found, changed, deleted.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

# All members are optional. Metadata is yours: up to 16 short texts.
made=$(curl -s "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" -d '{
  "title": "Rain in Lisbon",
  "metadata": {"source": "example"},
  "items": [{"role": "user", "content": "Will it rain tomorrow?"}]
}')
ID=$(echo "$made" | get data.id)
echo "made $ID"

found=$(curl -s "$BASE_URL/v1/conversations/$ID" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$found" | get data.items.0.content)" "Will it rain tomorrow?"
expect "$(echo "$found" | get data.metadata.source)" example

for number in 1 2 3 4; do
  curl -sf -o /dev/null "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" -d "{\"title\": \"Chat $number\"}"
done

# Page by page: the cursor for the next page is the id of the last row, and stays valid when new rows come in between.
AFTER= SEEN=0
while true; do
  page=$(curl -s "$BASE_URL/v1/conversations?limit=2&after=$AFTER" -H "Authorization: Bearer $TOKEN")
  SEEN=$((SEEN + $(echo "$page" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["data"]))')))
  [ "$(echo "$page" | get has_more)" = True ] || break
  AFTER=$(echo "$page" | get next_after)
done
expect "$SEEN" "$(echo "$page" | get total_count)"
echo "listed $SEEN conversations, two at a time"

found=$(curl -s "$BASE_URL/v1/conversations?search=lisbon" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$found" | get first_id)" "$ID"

# PATCH changes what is named; metadata is replaced as a whole, an empty text removes.
changed=$(curl -s -X PATCH "$BASE_URL/v1/conversations/$ID" -H "Authorization: Bearer $TOKEN" \
  -d '{"title": "Weather", "metadata": {"source": "example", "city": "Lisbon"}, "is_archived": true}')
expect "$(echo "$changed" | get data.title)" Weather
expect "$(echo "$changed" | get data.is_archived)" True
archived=$(curl -s "$BASE_URL/v1/conversations?is_archived=true" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$archived" | get total_count)" 1
echo "renamed and archived"

curl -sf -X DELETE "$BASE_URL/v1/conversations/$ID" -H "Authorization: Bearer $TOKEN"
gone=$(curl -s "$BASE_URL/v1/conversations/$ID" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$gone" | get error.code)" not_found

# Many at once: what was not there is named in failed_ids.
LAST=$(curl -s "$BASE_URL/v1/conversations?limit=1" -H "Authorization: Bearer $TOKEN" | get first_id)
deleted=$(curl -s "$BASE_URL/v1/conversations/bulk-delete" -H "Authorization: Bearer $TOKEN" \
  -d "{\"conversation_ids\": [\"$LAST\", \"$ID\"]}")
expect "$(echo "$deleted" | get data.deleted_count)" 1
expect "$(echo "$deleted" | get data.failed_ids.0)" "$ID"
echo "deleted one by one and many at once"
