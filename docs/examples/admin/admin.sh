#!/usr/bin/env bash
# Administration: models switched and described, catalogs, a provider made, read anew and deleted.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
UPSTREAM_URL=${UPSTREAM_URL:-http://localhost:11434/v1} # an engine with models; this is where Ollama listens
: "${ADMIN_EMAIL:?the e-mail of an administrator}" "${ADMIN_PASSWORD:?and the password}"

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

ADMIN=$(curl -s "$BASE_URL/auth/login" -d "{\"email\": \"$ADMIN_EMAIL\", \"password\": \"$ADMIN_PASSWORD\"}" | get access_token)
MODELS="$BASE_URL/v1/admin/models/provider-models"
CATALOGS="$BASE_URL/v1/admin/models/catalogs"
PROVIDERS="$BASE_URL/v1/admin/providers"

# A provider is an upstream that has models. Making one reads its list at once; the key is never shown again.
NAME=example-$RANDOM$RANDOM
made=$(curl -s "$PROVIDERS" -H "Authorization: Bearer $ADMIN" -d "{
  \"name\": \"$NAME\", \"vendor\": \"custom\", \"base_url\": \"$UPSTREAM_URL\", \"api_key\": \"sk-of-the-upstream\"
}")
PROVIDER=$(echo "$made" | get data.id)
echo "made $NAME, its key ends with $(echo "$made" | get data.key_hint)"
synced=$(curl -s -X POST "$PROVIDERS/$PROVIDER/sync" -H "Authorization: Bearer $ADMIN")
expect "$(echo "$synced" | get data.unavailable)" 0

# Its models: one row for each model of each provider. Other filters: provider, enabled, capability, family, search.
rows=$(curl -s "$MODELS?provider_id=$PROVIDER" -H "Authorization: Bearer $ADMIN")
ROW=$(echo "$rows" | get data.0.id)
MODEL=$(echo "$rows" | get data.0.model_id)
echo "it has $(echo "$rows" | get total_count) model(s), among them $MODEL"

# What is set holds for the next request, in every process; null takes it back.
changed=$(curl -s -X PATCH "$MODELS/$ROW" -H "Authorization: Bearer $ADMIN" -d '{
  "default_temperature": 0.3, "rate_limit": {"requests_per_minute": 600}, "tags": ["example"], "reason": "trying it"
}')
expect "$(echo "$changed" | get data.rate_limit.requests_per_minute)" 600
changed=$(curl -s -X PATCH "$MODELS/$ROW" -H "Authorization: Bearer $ADMIN" \
  -d '{"default_temperature": null, "rate_limit": null, "tags": null}')
expect "$(echo "$changed" | get data.tags)" "[]"
expect "$(curl -s "$MODELS/$ROW" -H "Authorization: Bearer $ADMIN" | get data.model_id)" "$MODEL"
echo "limited and freed $MODEL"

# Many at once, by row or by model.
toggled=$(curl -s "$MODELS/bulk-toggle" -H "Authorization: Bearer $ADMIN" \
  -d "{\"model_ids\": [\"$ROW\", \"no-such-model\"], \"enabled\": false, \"reason\": \"maintenance\"}")
expect "$(echo "$toggled" | get data.changed_count)" 1
expect "$(echo "$toggled" | get data.not_found.0)" no-such-model
expect "$(curl -s "$MODELS?provider_id=$PROVIDER&enabled=false" -H "Authorization: Bearer $ADMIN" | get first_id)" "$ROW"
curl -sf -o /dev/null "$MODELS/bulk-toggle" -H "Authorization: Bearer $ADMIN" \
  -d "{\"model_ids\": [\"$ROW\"], \"enabled\": true}"
echo "switched it off and on"

# Catalogs say what is known of a model, whoever offers it, and what it has been used for.
row=$(curl -s "$CATALOGS/$MODEL" -H "Authorization: Bearer $ADMIN")
CATALOG=$(echo "$row" | get data.public_id)
described=$(curl -s -X PATCH "$CATALOGS/$CATALOG" -H "Authorization: Bearer $ADMIN" \
  -d '{"description": "A model for examples.", "context_window": 8192}')
expect "$(echo "$described" | get data.status)" updated
toggled=$(curl -s "$CATALOGS/bulk-toggle" -H "Authorization: Bearer $ADMIN" \
  -d "{\"catalog_ids\": [\"$CATALOG\"], \"enabled\": true}")
expect "$(echo "$toggled" | get data.count)" 1
updated=$(curl -s "$CATALOGS?status=updated" -H "Authorization: Bearer $ADMIN")
echo "described $CATALOG, used $(echo "$row" | get data.total_requests) times; $(echo "$updated" | get total_count) row(s) are edited"

# Resting, then gone with its models.
resting=$(curl -s -X PATCH "$PROVIDERS/$PROVIDER" -H "Authorization: Bearer $ADMIN" -d '{"active": false}')
expect "$(echo "$resting" | get data.active)" False
curl -sf -X DELETE "$PROVIDERS/$PROVIDER" -H "Authorization: Bearer $ADMIN"
expect "$(curl -s "$PROVIDERS/$PROVIDER" -H "Authorization: Bearer $ADMIN" | get error.code)" not_found
echo "deleted $NAME"

# Nobody else may do any of this.
GUEST=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)
expect "$(curl -s "$PROVIDERS" -H "Authorization: Bearer $GUEST" | get error.code)" admin_required
