#!/usr/bin/env bash
# Messages: added, listed, changed, answered, generated anew, shared with the public, deleted.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)
ID=$(curl -s -X POST "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" | get data.id)
ITEMS="$BASE_URL/v1/conversations/$ID/items"

# One message. It is kept, and nothing is generated. Content comes back as it was given, a text or a list of parts.
added=$(curl -s "$ITEMS" -H "Authorization: Bearer $TOKEN" -d '{"role": "user", "content": "Is it warm in Lisbon?"}')
QUESTION=$(echo "$added" | get data.id)
expect "$(echo "$added" | get data.status)" completed

# Many at once.
added=$(curl -s "$ITEMS" -H "Authorization: Bearer $TOKEN" -d '{"items": [
  {"role": "assistant", "content": "Usually, yes."},
  {"role": "user", "content": [{"type": "text", "text": "And in winter?"}], "metadata": {"client": "example"}}
]}')
expect "$(echo "$added" | get data.1.content.0.text)" "And in winter?"
echo "added three messages"

# The oldest come first; order=desc turns that round. Cursors work as for conversations.
page=$(curl -s "$ITEMS?limit=2" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$page" | get first_id)" "$QUESTION"
rest=$(curl -s "$ITEMS?limit=2&after=$(echo "$page" | get next_after)" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$rest" | get has_more)" False
newest=$(curl -s "$ITEMS?order=desc&limit=1" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$newest" | get last_id)" "$(echo "$rest" | get last_id)"

# A change is made in place: same id, same position.
changed=$(curl -s -X PATCH "$ITEMS/$QUESTION" -H "Authorization: Bearer $TOKEN" \
  -d '{"content": "Is it warm in Porto?"}')
expect "$(echo "$changed" | get data.id)" "$QUESTION"
expect "$(curl -s "$ITEMS/$QUESTION" -H "Authorization: Bearer $TOKEN" | get data.content)" "Is it warm in Porto?"
echo "changed the first one"

# A chat in the conversation adds the message and its answer.
curl -sf -o /dev/null "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
  -d "{\"model\": \"$MODEL\", \"conversation\": \"$ID\", \"messages\": [{\"role\": \"user\", \"content\": \"In short?\"}]}"
ANSWER=$(curl -s "$ITEMS?order=desc&limit=1" -H "Authorization: Bearer $TOKEN" | get first_id)

# The answer once more: a new item takes the place of the old one.
anew=$(curl -s "$ITEMS/$ANSWER/regenerate" -H "Authorization: Bearer $TOKEN" -d '{"temperature": 0.9}')
expect "$(echo "$anew" | get data.role)" assistant
[ "$(echo "$anew" | get data.id)" != "$ANSWER" ]
gone=$(curl -s "$ITEMS/$ANSWER" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$gone" | get error.code)" not_found
echo "answered again: $(echo "$anew" | get data.content | head -1)"

# A share is a copy as it is now, for everybody who has the link, until it expires or is revoked.
share=$(curl -s "$BASE_URL/v1/conversations/$ID/share" -H "Authorization: Bearer $TOKEN" \
  -d '{"title": "The weather", "expires_in": 86400}')
PUBLIC="$BASE_URL/v1/public/shares/$(echo "$share" | get data.slug)"
public=$(curl -s "$PUBLIC")
expect "$(echo "$public" | get data.items.0.content)" "Is it warm in Porto?"
echo "shared as $(echo "$share" | get data.share_link)"
shares=$(curl -s "$BASE_URL/v1/shares" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$shares" | get data.0.id)" "$(echo "$share" | get data.id)"

curl -sf -X DELETE "$BASE_URL/v1/shares/$(echo "$share" | get data.id)" -H "Authorization: Bearer $TOKEN"
expect "$(curl -s "$PUBLIC" | get error.code)" share_revoked

curl -sf -X DELETE "$ITEMS/$QUESTION" -H "Authorization: Bearer $TOKEN"
expect "$(curl -s "$ITEMS" -H "Authorization: Bearer $TOKEN" | get total_count)" 4
echo "revoked the share and deleted the first message"
