#!/usr/bin/env bash
# Settings of a user: read, changed group by group, with preferences of the client's own.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

# Everybody has settings, with their defaults from the beginning.
settings=$(curl -s "$BASE_URL/v1/users/me/settings" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$settings" | get data.profile_settings.base_style)" Friendly
expect "$(echo "$settings" | get data.memory_config.max_items)" 10

# A change names only what is to change, in groups, too. The answer is always all settings.
changed=$(curl -s -X PATCH "$BASE_URL/v1/users/me/settings" -H "Authorization: Bearer $TOKEN" -d '{
  "profile_settings": {"base_style": "Concise", "nick_name": "Ann"},
  "memory_config": {"max_items": 20, "min_similarity": 0.5},
  "advanced_settings": {"web_search": true},
  "enable_trace": true
}')
expect "$(echo "$changed" | get data.profile_settings.nick_name)" Ann
expect "$(echo "$changed" | get data.memory_config.max_user_items)" 3
expect "$(echo "$changed" | get data.advanced_settings.web_search_enabled)" True
echo "changed three groups, kept the rest"

changed=$(curl -s -X PATCH "$BASE_URL/v1/users/me/settings" -H "Authorization: Bearer $TOKEN" \
  -d '{"profile_settings": {"occupation": "Sailor"}}')
expect "$(echo "$changed" | get data.profile_settings.base_style)" Concise

# Preferences are the client's own; any key is allowed. null takes one away.
preferences=$(curl -s -X PATCH "$BASE_URL/v1/users/me/settings/preferences" -H "Authorization: Bearer $TOKEN" \
  -d '{"preferences": {"selected_model": "jan-demo", "theme": {"dark": true}}}')
expect "$(echo "$preferences" | get data.preferences.theme.dark)" True
preferences=$(curl -s "$BASE_URL/v1/users/me/settings/preferences" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$preferences" | get data.preferences.selected_model)" jan-demo
echo "remembered the model and the theme"

# What is wrong is named, and then nothing is changed.
refused=$(curl -s -X PATCH "$BASE_URL/v1/users/me/settings" -H "Authorization: Bearer $TOKEN" \
  -d '{"profile_settings": {"base_style": "Rude", "nick_name": "Bob"}}')
expect "$(echo "$refused" | get error.param)" profile_settings.base_style
settings=$(curl -s "$BASE_URL/v1/users/me/settings" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$settings" | get data.profile_settings.nick_name)" Ann
echo "refused: $(echo "$refused" | get error.message)"
