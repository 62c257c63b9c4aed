// Usage: how many requests and tokens a user has needed, by day, model, project or API key.

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

const model = process.env.MODEL ?? "jan-demo";
const used = async (query) => (await call("GET", `/v1/usage/me?${new URLSearchParams(query)}`)).data;

for (const number of [1, 2]) {
  await call("POST", "/v1/chat/completions", { model, messages: [{ role: "user", content: `Say ${number}.` }] });
}

// An answer is counted about a second after its end.
const patience = Date.now() + 10_000;
let usage = await used({ group_by: "model" });
while (usage.requests < 2 && Date.now() < patience) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  usage = await used({ group_by: "model" });
}
assert.deepEqual(usage.groups.map((group) => [group.key, group.requests]), [[model, 2]]);
console.log("2 requests to", model, "took", usage.total_tokens, "tokens");

// Any period, in dates (the last day is included) or RFC 3339 times; without one it is the last 30 days.
const today = new Date().toISOString().slice(0, 10);
usage = await used({ from: today, to: today, group_by: "day" });
console.log("of these today:", usage.prompt_tokens, "asked,", usage.completion_tokens, "answered");

assert.equal((await used({ from: "2020-01-01", to: "2020-01-31" })).total_tokens, 0);

const refused = await call("GET", "/v1/usage/me?group_by=colour", undefined, 400);
assert.equal(refused.error.param, "group_by");
