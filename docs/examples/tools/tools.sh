#!/usr/bin/env bash
# Tools over the Model Context Protocol: the list, a search, a page, texts that are found again, Python.
set -euo pipefail
BASE_URL=${BASE_URL:-http://localhost:8000}

# get result.isError: what stands at that path in the JSON on standard input
get() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda it, key: it[int(key) if key.isdigit() else key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
# expect WHAT WANTED: stops when they differ
expect() { [ "$1" = "$2" ] || { echo "expected $2, got: $1" >&2; exit 1; }; }

TOKEN=$(curl -s -X POST "$BASE_URL/auth/guest-login" | get access_token)

# ask METHOD PARAMS: the answer to one message of JSON-RPC
ask() {
  curl -s "$BASE_URL/v1/mcp" -H "Authorization: Bearer $TOKEN" \
    -d "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"$1\", \"params\": $2}"
}
# call NAME ARGUMENTS: what a tool says. Python is made ready for about a minute after the installation; until then this waits.
call() {
  while answer=$(ask tools/call "{\"name\": \"$1\", \"arguments\": $2}"); [[ $answer == *"warming up"* ]]; do sleep 2; done
  printf '%s' "$answer" | get result.content.0.text
}

# Every tool says what it takes, as JSON Schema.
tools=$(ask tools/list '{}')
echo "$tools" | grep -o '"name":"[a-z_]*"'
expect "$(echo "$tools" | get result.tools.3.inputSchema.required.0)" q

# A search says which engine has answered. Without one there are no results, and a reason.
found=$(call google_search '{"q": "jan server", "num": 3}')
echo "searched with: $(echo "$found" | get engine)"

# A page of the web is read, but never one from inside of the server's network. What a tool cannot do is a result.
refused=$(ask tools/call '{"name": "scrape", "arguments": {"url": "http://169.254.169.254/latest/meta-data"}}')
expect "$(echo "$refused" | get result.structuredContent.error.code)" url_not_allowed
echo "refused: $(echo "$refused" | get result.content.0.text)"

# What is wrong with a call is an error of JSON-RPC.
wrong=$(ask tools/call '{"name": "scrape", "arguments": {}}')
expect "$(echo "$wrong" | get error.code) $(echo "$wrong" | get error.data.field)" "-32602 url"

# Texts are found by what they mean. The same id again replaces the text.
tea=$(call file_search_index '{"document_id": "tea", "text": "Green tea is brewed at eighty degrees.", "tags": ["drinks"]}')
expect "$(echo "$tea" | get status)" indexed
call file_search_index '{"document_id": "bus", "text": "The bus to the harbour leaves every ten minutes."}' > /dev/null
best=$(call file_search_query '{"query": "How hot should the water be?", "top_k": 1}')
expect "$(echo "$best" | get results.0.document_id)" tea
echo "found: $(echo "$best" | get results.0.text_preview)"
expect "$(call file_search_delete '{"document_ids": ["tea", "bus"]}' | get count)" 2

# Python has a session, with variables and files. What its last expression is worth is printed.
session=$(call python_exec '{"code": "numbers = [1, 2, 3]"}' | get session_id)
ran=$(call python_exec '{"code": "sum(numbers) * 7", "session_id": "'"$session"'"}')
expect "$(echo "$ran" | get stdout)" 42
echo "computed: $(echo "$ran" | get stdout)"

# A program that fails is a result as well.
expect "$(call python_exec '{"code": "1 / 0"}' | get error)" "ZeroDivisionError: division by zero"

# Figures become images of the caller, and have a URL for some minutes.
drawn=$(call python_exec '{"code": "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"}')
expect "$(curl -s "$(echo "$drawn" | get artifacts.0.url)" | head -c 4 | tail -c 3)" PNG
echo "drawn: $(echo "$drawn" | get artifacts.0.name)"
