// Administration: models switched and described, catalogs, a provider made, read anew and deleted.
//
// ADMIN_EMAIL and ADMIN_PASSWORD are those of an administrator, UPSTREAM_URL an engine with models.

import assert from "node:assert/strict";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const upstream = process.env.UPSTREAM_URL ?? "http://localhost:11434/v1"; // where Ollama listens
const models = "/v1/admin/models/provider-models";
const catalogs = "/v1/admin/models/catalogs";
const providers = "/v1/admin/providers";
const headers = {};

async function call(method, path, body, status = 200) {
  const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  return text && JSON.parse(text);
}

const login = { email: process.env.ADMIN_EMAIL, password: process.env.ADMIN_PASSWORD };
headers.Authorization = `Bearer ${(await call("POST", "/auth/login", login)).access_token}`;

// A provider is an upstream that has models. Making one reads its list at once; the key is never shown again.
const name = `example-${crypto.randomUUID()}`;
const wanted = { name, vendor: "custom", base_url: upstream, api_key: "sk-of-the-upstream" };
const provider = (await call("POST", providers, wanted, 201)).data;
console.log(`made ${name}, its key ends with ${provider.key_hint}`);
assert.equal((await call("POST", `${providers}/${provider.id}/sync`)).data.unavailable, 0);

// Its models: one row for each model of each provider. Other filters: provider, enabled, capability, family, search.
const rows = await call("GET", `${models}?provider_id=${provider.id}`);
const row = rows.data[0];
console.log("it has", rows.total_count, "model(s), among them", row.model_id);

// What is set holds for the next request, in every process; null takes it back.
const limited = { default_temperature: 0.3, rate_limit: { requests_per_minute: 600 }, tags: ["example"] };
const changed = await call("PATCH", `${models}/${row.id}`, { ...limited, reason: "trying it" });
assert.equal(changed.data.rate_limit.requests_per_minute, 600);
const freed = { default_temperature: null, rate_limit: null, tags: null };
assert.deepEqual((await call("PATCH", `${models}/${row.id}`, freed)).data.tags, []);
assert.equal((await call("GET", `${models}/${row.id}`)).data.model_id, row.model_id);
console.log("limited and freed", row.model_id);

// Many at once, by row or by model.
const off = { model_ids: [row.id, "no-such-model"], enabled: false, reason: "maintenance" };
const toggled = (await call("POST", `${models}/bulk-toggle`, off)).data;
assert.deepEqual([toggled.changed_count, toggled.not_found], [1, ["no-such-model"]]);
const resting = await call("GET", `${models}?provider_id=${provider.id}&enabled=false`);
assert.ok(resting.data.some((each) => each.id === row.id));
await call("POST", `${models}/bulk-toggle`, { model_ids: [row.id], enabled: true });
console.log("switched it off and on");

// Catalogs say what is known of a model, whoever offers it, and what it has been used for.
const catalog = (await call("GET", `${catalogs}/${row.model_id}`)).data;
const description = { description: "A model for examples.", context_window: 8192 };
assert.equal((await call("PATCH", `${catalogs}/${catalog.public_id}`, description)).data.status, "updated");
const on = { catalog_ids: [catalog.public_id], enabled: true };
assert.equal((await call("POST", `${catalogs}/bulk-toggle`, on)).data.count, 1);
const updated = await call("GET", `${catalogs}?status=updated`);
assert.ok(updated.data.some((each) => each.public_id === catalog.public_id));
console.log(`described ${catalog.public_id}, used ${catalog.total_requests} times`);

// Resting, then gone with its models.
assert.equal((await call("PATCH", `${providers}/${provider.id}`, { active: false })).data.active, false);
await call("DELETE", `${providers}/${provider.id}`, undefined, 204);
await call("GET", `${providers}/${provider.id}`, undefined, 404);
console.log("deleted", name);

// Nobody else may do any of this.
headers.Authorization = `Bearer ${(await call("POST", "/auth/guest-login", {}, 201)).access_token}`;
assert.equal((await call("GET", providers, undefined, 403)).error.code, "admin_required");
