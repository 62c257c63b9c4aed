#!/usr/bin/env bash
# Models: what can be called, what each of them can do, and where it comes from.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

# OpenAI's list, which every OpenAI client can read. An id of it is what requests name as "model".
models=$(curl -s "$BASE_URL/v1/models" -H "Authorization: Bearer $TOKEN")
MODEL=$(echo "$models" | get data.0.id)
expect "$(echo "$models" | get data.0.object)" model
expect "$(curl -s "$BASE_URL/v1/models/$MODEL" -H "Authorization: Bearer $TOKEN" | get id)" "$MODEL"
echo "the first model is $MODEL"

# What is known of each: the catalog.
row=$(curl -s "$BASE_URL/v1/models/catalogs/$MODEL" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$row" | get data.id)" "$MODEL"
echo "$(echo "$row" | get data.name) can: $(echo "$row" | get data.capabilities)"

# Those that can do something: text, vision, audio, embeddings, reasoning, tools and so on.
embedding=$(curl -s "$BASE_URL/v1/models/catalogs?capability=embeddings" -H "Authorization: Bearer $TOKEN")
EMBEDDING=$(echo "$embedding" | get data.0.id)
vectors=$(curl -s "$BASE_URL/v1/embeddings" -H "Authorization: Bearer $TOKEN" \
  -d "{\"model\": \"$EMBEDDING\", \"input\": [\"warm\", \"cold\"]}")
expect "$(echo "$vectors" | get data.1.index)" 1
echo "$EMBEDDING makes embeddings"

providers=$(curl -s "$BASE_URL/v1/models/providers" -H "Authorization: Bearer $TOKEN")
echo "the first provider is $(echo "$providers" | get data.0.name), a $(echo "$providers" | get data.0.vendor)"

missing=$(curl -s "$BASE_URL/v1/models/no-such-model" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$missing" | get error.code)" model_not_found
