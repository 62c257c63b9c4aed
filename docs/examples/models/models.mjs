// Models: what can be called, what each of them can do, and where it comes from.

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

// OpenAI's list, which every OpenAI client can read. An id of it is what requests name as "model".
const models = await call("GET", "/v1/models");
const model = models.data[0].id;
assert.equal((await call("GET", `/v1/models/${model}`)).id, model);
console.log("the first model is", model);

// What is known of each: the catalog.
const row = (await call("GET", `/v1/models/catalogs/${model}`)).data;
assert.equal(row.id, model);
console.log(row.name, "can:", row.capabilities.join(", "));

// Those that can do something: text, vision, audio, embeddings, reasoning, tools and so on.
const found = (await call("GET", "/v1/models/catalogs?capability=embeddings")).data[0].id;
const vectors = await call("POST", "/v1/embeddings", { model: found, input: ["warm", "cold"] });
assert.deepEqual(vectors.data.map((vector) => vector.index), [0, 1]);
console.log(found, "makes embeddings of", vectors.data[0].embedding.length, "numbers");

const provider = (await call("GET", "/v1/models/providers")).data[0];
console.log("the first provider is", provider.name, "- a", provider.vendor);

assert.equal((await call("GET", "/v1/models/no-such-model", undefined, 404)).error.code, "model_not_found");
