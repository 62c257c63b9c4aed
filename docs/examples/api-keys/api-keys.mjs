// API keys: made, used by programs, limited to reading, listed, revoked.

import assert from "node:assert/strict";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const model = process.env.MODEL ?? "jan-demo";
const { access_token } = await (await fetch(`${api}/auth/guest-login`, { method: "POST" })).json();
const signedIn = { Authorization: `Bearer ${access_token}` };

async function call(method, path, headers, body, status = 200) {
  const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  return text && JSON.parse(text);
}

// The key itself is shown this once.
const wanted = { name: "nightly job", expires_in_days: 30 };
const { id, key, prefix, suffix } = (await call("POST", "/auth/api-keys", signedIn, wanted, 201)).data;
console.log(`made ${prefix}...${suffix}`);

// It is sent in a header of its own, or where OpenAI's clients send theirs.
assert.equal((await call("GET", "/auth/me", { "X-API-Key": key })).data.auth_method, "api_key");
const chat = { model, messages: [{ role: "user", content: "Hello!" }] };
const answer = await call("POST", "/v1/chat/completions", { Authorization: `Bearer ${key}` }, chat);
assert.equal(answer.choices[0].finish_reason, "stop");
console.log("it may chat");

// A key that can only read.
const dashboard = { name: "dashboard", scopes: ["read"] };
const reader = { "X-API-Key": (await call("POST", "/auth/api-keys", signedIn, dashboard, 201)).data.key };
await call("GET", "/v1/conversations", reader);
const refused = await call("POST", "/v1/conversations", reader, {}, 403);
assert.equal(refused.error.code, "insufficient_scope");
console.log("a reader may not write");

// Keys are made, listed and revoked with a token, not with a key. Lists never show the key.
const keys = (await call("GET", "/auth/api-keys", signedIn)).data;
assert.deepEqual(keys.map((row) => row.name).sort(), ["dashboard", "nightly job"]);
assert.ok(keys.every((row) => !("key" in row)));

await call("DELETE", `/auth/api-keys/${id}`, signedIn, undefined, 204);
const revoked = await call("GET", "/v1/models", { "X-API-Key": key }, undefined, 401);
assert.equal(revoked.error.code, "unauthorized");
console.log("revoked");
