// Conversations: made, read, listed page by page, found, changed, deleted.

import assert from "node:assert/strict";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const { access_token } = await (await fetch(`${api}/auth/guest-login`, { method: "POST" })).json();
const headers = { Authorization: `Bearer ${access_token}` };

async function call(method, path, body, status = 200) {
  const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  return text && JSON.parse(text);
}


// All members are optional. Metadata is yours: up to 16 short texts.
const made = await call("POST", "/v1/conversations", {
  title: "Rain in Lisbon",
  metadata: { source: "example" },
  items: [{ role: "user", content: "Will it rain tomorrow?" }],
});
const path = `/v1/conversations/${made.data.id}`;
console.log("made", made.data.id);

const found = await call("GET", path);
assert.equal(found.data.items[0].content, "Will it rain tomorrow?");
assert.deepEqual(found.data.metadata, { source: "example" });

for (const number of [1, 2, 3, 4]) await call("POST", "/v1/conversations", { title: `Chat ${number}` });

// Page by page: the cursor for the next page is the id of the last row, and stays valid when new rows come in between.
const seen = [];
let page = { next_after: "" };
do {
  page = await call("GET", `/v1/conversations?limit=2&after=${page.next_after}`);
  seen.push(...page.data.map((row) => row.id));
} while (page.has_more);
assert.equal(new Set(seen).size, page.total_count);
console.log("listed", seen.length, "conversations, two at a time");

const matches = await call("GET", "/v1/conversations?search=lisbon");
assert.deepEqual(matches.data.map((row) => row.id), [made.data.id]);

// PATCH changes what is named; metadata is replaced as a whole, an empty text removes.
const change = { title: "Weather", metadata: { source: "example", city: "Lisbon" }, is_archived: true };
const changed = await call("PATCH", path, change);
assert.deepEqual([changed.data.title, changed.data.is_archived], ["Weather", true]);
assert.equal((await call("GET", "/v1/conversations?is_archived=true")).total_count, 1);
console.log("renamed and archived");

await call("DELETE", path, undefined, 204);
assert.equal((await call("GET", path, undefined, 404)).error.code, "not_found");

// Many at once: what was not there is named in failed_ids.
const last = seen.find((id) => id !== made.data.id);
const deleted = await call("POST", "/v1/conversations/bulk-delete", { conversation_ids: [last, made.data.id] });
assert.deepEqual([deleted.data.deleted_count, deleted.data.failed_ids], [1, [made.data.id]]);
console.log("deleted one by one and many at once");
