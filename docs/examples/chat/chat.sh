#!/usr/bin/env bash
# Chat completions: a whole answer, a stream, an answer inside a conversation, and what an error looks like.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }
# words: the text in a stream of server-sent events
words() { python3 -c 'import json, sys
events = [line[6:].strip() for line in sys.stdin if line.startswith("data: ")]
assert events[-1] == "[DONE]", events[-1]
chunks = [json.loads(event) for event in events[:-1]]
print("".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]))'; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

answer=$(curl -s "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
  -d "{\"model\": \"$MODEL\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}], \"temperature\": 0.7}")
expect "$(echo "$answer" | get choices.0.finish_reason)" stop
echo "answered: $(echo "$answer" | get choices.0.message.content | head -1)"
echo "tokens: $(echo "$answer" | get usage.total_tokens)"

# Each event is a line that begins with "data: "; [DONE] comes only after a complete answer.
streamed=$(curl -sN "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
  -d "{\"model\": \"$MODEL\", \"messages\": [{\"role\": \"user\", \"content\": \"Count to three.\"}], \"stream\": true}" \
  | words)
echo "streamed: $(echo "$streamed" | head -1)"

# In a conversation only what is new is sent: the server has the rest, and keeps the answer.
CONVERSATION=$(curl -s -X POST "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" | get data.id)
for text in "My name is Ann." "What is my name?"; do
  curl -sN "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
    -d "{\"model\": \"$MODEL\", \"conversation\": \"$CONVERSATION\", \"stream\": true,
         \"messages\": [{\"role\": \"user\", \"content\": \"$text\"}]}" | words | head -1
done
items=$(curl -s "$BASE_URL/v1/conversations/$CONVERSATION/items" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$items" | get total_count)" 4
echo "the conversation has both turns"

failed=$(curl -s "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" \
  -d '{"model": "no-such-model", "messages": [{"role": "user", "content": "Hello!"}]}')
expect "$(echo "$failed" | get error.code)" model_not_found
echo "refused: $(echo "$failed" | get error.message)"
