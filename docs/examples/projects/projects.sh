#!/usr/bin/env bash
# Projects: folders of conversations with an instruction that models get in each of them.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

made=$(curl -s "$BASE_URL/v1/projects" -H "Authorization: Bearer $TOKEN" \
  -d '{"name": "Travel", "instruction": "Answer in one sentence.", "is_favorite": true}')
PROJECT=$(echo "$made" | get data.id)
echo "made $PROJECT"

# Conversations are made in a project, or moved there later.
INSIDE=$(curl -s "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" \
  -d "{\"project_id\": \"$PROJECT\"}" | get data.id)
MOVED=$(curl -s -X POST "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" | get data.id)
moved=$(curl -s -X PATCH "$BASE_URL/v1/conversations/$MOVED" -H "Authorization: Bearer $TOKEN" \
  -d "{\"project_id\": \"$PROJECT\"}")
expect "$(echo "$moved" | get data.project_id)" "$PROJECT"

# The model is sent the instruction before what was said.
answer=$(curl -s "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" -d "{
  \"model\": \"$MODEL\", \"conversation\": \"$INSIDE\",
  \"messages\": [{\"role\": \"user\", \"content\": \"Where is it warm in March?\"}]
}")
expect "$(echo "$answer" | get conversation.id)" "$INSIDE"
echo "answered: $(echo "$answer" | get choices.0.message.content | head -1)"

inside=$(curl -s "$BASE_URL/v1/projects/$PROJECT/conversations" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$inside" | get total_count)" 2
favorites=$(curl -s "$BASE_URL/v1/projects?is_favorite=true&search=trav" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$favorites" | get data.0.conversation_count)" 2
echo "listed its two conversations"

# null takes the instruction away.
changed=$(curl -s -X PATCH "$BASE_URL/v1/projects/$PROJECT" -H "Authorization: Bearer $TOKEN" \
  -d '{"name": "Travel 2026", "instruction": null, "is_archived": true}')
expect "$(echo "$changed" | get data.is_archived)" True
expect "$(curl -s "$BASE_URL/v1/projects/$PROJECT" -H "Authorization: Bearer $TOKEN" | get data.name)" "Travel 2026"
echo "renamed and archived"

# Its conversations stay, without a project.
deleted=$(curl -s -X DELETE "$BASE_URL/v1/projects/$PROJECT" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$deleted" | get data.deleted)" True
left=$(curl -s "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$left" | get total_count)" 2
echo "deleted; its conversations are still there"
