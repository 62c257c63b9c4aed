#!/usr/bin/env bash
# Images: brought in four ways, shown to a model, shared, downloaded, deleted.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}
MODEL=${MODEL:-jan-demo}

# get data.id: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }
# pixel FILE: a GIF of one pixel in some color
pixel() { { printf 'GIF89a\1\0\1\0\200\0\0'; head -c 3 /dev/urandom; printf '\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;'; } > "$1"; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

# As a data URL. Somebody may have brought the same image before; it has one id in any case.
pixel "$folder/one.gif"
media=$(curl -s "$BASE_URL/v1/media" -H "Authorization: Bearer $TOKEN" -d '{
  "source": {"type": "data_url", "data_url": "data:image/gif;base64,'"$(base64 -w 0 "$folder/one.gif")"'"},
  "filename": "one.gif"
}')
id=$(echo "$media" | get id)
expect "$(echo "$media" | get mime)" image/gif
echo "brought $(echo "$media" | get mime)"

# As a form. The same bytes are the same image.
again=$(curl -s "$BASE_URL/v1/media/upload" -H "Authorization: Bearer $TOKEN" -F "file=@$folder/one.gif")
expect "$(echo "$again" | get id) $(echo "$again" | get deduped)" "$id True"
echo "brought again, same id"

# Past the server: an id and a form for whoever has the bytes, without a credential.
pixel "$folder/two.gif"
prepared=$(curl -s "$BASE_URL/v1/media/prepare-upload" -H "Authorization: Bearer $TOKEN" -d '{"content_type": "image/gif"}')
second=$(echo "$prepared" | get jan_id)
pending=$(curl -s "$BASE_URL/v1/media/$second" -H "Authorization: Bearer $TOKEN")
expect "$(echo "$pending" | get error.code)" upload_pending
status=$(curl -s -o "$folder/answer" -w '%{http_code}' "$(echo "$prepared" | get presigned_post.url)" \
  -F "key=$(echo "$prepared" | get presigned_post.fields.key)" \
  -F "policy=$(echo "$prepared" | get presigned_post.fields.policy)" \
  -F "x-amz-algorithm=$(echo "$prepared" | get presigned_post.fields.x-amz-algorithm)" \
  -F "x-amz-credential=$(echo "$prepared" | get presigned_post.fields.x-amz-credential)" \
  -F "x-amz-date=$(echo "$prepared" | get presigned_post.fields.x-amz-date)" \
  -F "x-amz-signature=$(echo "$prepared" | get presigned_post.fields.x-amz-signature)" \
  -F "file=@$folder/two.gif")
expect "$status" 204
expect "$(curl -s "$BASE_URL/v1/media/$second" -H "Authorization: Bearer $TOKEN" | get mime)" image/gif
echo "uploaded past the server"

# Or with a PUT.
pixel "$folder/three.gif"
prepared=$(curl -s "$BASE_URL/v1/media/prepare-upload" -H "Authorization: Bearer $TOKEN" -d '{"content_type": "image/gif"}')
third=$(echo "$prepared" | get jan_id)
curl -sf -T "$folder/three.gif" "$(echo "$prepared" | get upload_url)"
expect "$(curl -s "$BASE_URL/v1/media/$third" -H "Authorization: Bearer $TOKEN" | get bytes)" "$(wc -c < "$folder/three.gif")"
echo "uploaded with PUT"

# From somewhere else, but never from inside of the server's network.
refused=$(curl -s "$BASE_URL/v1/media" -H "Authorization: Bearer $TOKEN" \
  -d '{"source": {"type": "remote_url", "url": "http://169.254.169.254/latest/meta-data"}}')
expect "$(echo "$refused" | get error.code)" url_not_allowed
echo "refused: $(echo "$refused" | get error.message)"

# The id stands for the image wherever a prompt can have one; a conversation keeps it.
conversation=$(curl -s "$BASE_URL/v1/conversations" -H "Authorization: Bearer $TOKEN" -d '{}' | get data.id)
answer=$(curl -s "$BASE_URL/v1/chat/completions" -H "Authorization: Bearer $TOKEN" -d '{
  "model": "'"$MODEL"'", "conversation": "'"$conversation"'",
  "messages": [{"role": "user", "content": [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "'"$id"'"}},
    {"type": "image_url", "image_url": {"url": "data:image/gif;base64,'"$second"'"}}
  ]}]
}')
echo "$answer" | get choices.0.message.content | tail -1

# Who reads a share has no right to the images in it, so gets signed URLs.
slug=$(curl -s "$BASE_URL/v1/conversations/$conversation/share" -H "Authorization: Bearer $TOKEN" -d '{}' | get data.slug)
link=$(curl -s "$BASE_URL/v1/public/shares/$slug" | get data.items.0.content.1.image_url.url)
curl -sf "$link" | cmp - "$folder/one.gif"
echo "shared"

# The bytes, whole or in part; signed URLs, of many at once.
curl -sf "$BASE_URL/v1/media/$id/content" -H "Authorization: Bearer $TOKEN" | cmp - "$folder/one.gif"
expect "$(curl -s "$BASE_URL/v1/media/$id/content" -H "Authorization: Bearer $TOKEN" -H "Range: bytes=0-2")" GIF
resolved=$(curl -s "$BASE_URL/v1/media/resolve" -H "Authorization: Bearer $TOKEN" -d '{"ids": ["'"$second"'", "unknown"]}')
expect "$(echo "$resolved" | get missing.0)" unknown
curl -sf "$(echo "$resolved" | get media.0.presigned_url)" | cmp - "$folder/two.gif"
echo "read"

for each in "$id" "$second" "$third"; do
  expect "$(curl -s -o "$folder/answer" -w '%{http_code}' -X DELETE "$BASE_URL/v1/media/$each" -H "Authorization: Bearer $TOKEN")" 204
done
expect "$(curl -s "$BASE_URL/v1/media/$id" -H "Authorization: Bearer $TOKEN" | get error.code)" not_found
echo "deleted"
