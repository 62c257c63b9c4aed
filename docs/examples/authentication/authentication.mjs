// Signing in: as a guest, with a new pair of tokens, with an account and its password; signing out.

import assert from "node:assert/strict";

const api = process.env.BASE_URL ?? "http://localhost:8000";

async function call(method, path, { token, body, status = 200 } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const json = await answer.json();
  assert.equal(answer.status, status, JSON.stringify(json));
  return json;
}

// A guest needs nothing. The access token is for requests, the refresh token for a new pair.
let tokens = await call("POST", "/auth/guest-login", { status: 201 });
const me = await call("GET", "/auth/me", { token: tokens.access_token });
assert.ok(me.data.is_guest);
console.log("signed in as guest", me.data.id);

// An access token lives for minutes. The refresh token buys a new pair, once.
tokens = await call("POST", "/auth/refresh", { body: { refresh_token: tokens.refresh_token } });
console.log("refreshed, good for", tokens.expires_in, "s");

// A guest becomes an account and keeps its id, its conversations and its settings.
const account = { email: `ann-${crypto.randomUUID()}@example.com`, password: "correct horse battery" };
const upgraded = await call("POST", "/auth/upgrade", {
  token: tokens.access_token,
  body: { ...account, full_name: "Ann" },
});
assert.equal(upgraded.status, "upgraded");

tokens = await call("POST", "/auth/login", { body: account });
assert.equal(tokens.user_id, me.data.id);
console.log("logged in as", account.email, "- the same user as before");

const wrong = await call("POST", "/auth/login", { body: { ...account, password: "wrong" }, status: 401 });
assert.equal(wrong.error.code, "invalid_credentials");

// Signing out ends the session: its refresh token buys nothing any more.
const session = { refresh_token: tokens.refresh_token };
assert.equal((await call("POST", "/auth/revoke", { body: session })).status, "revoked");
const spent = await call("POST", "/auth/refresh", { body: session, status: 401 });
assert.equal(spent.error.code, "invalid_grant");
await call("GET", "/v1/models", { status: 401 });
console.log("signed out");
