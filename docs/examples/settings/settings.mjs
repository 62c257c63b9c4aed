// Settings of a user: read, changed group by group, with preferences of the client's own.

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

const path = "/v1/users/me/settings";

// Everybody has settings, with their defaults from the beginning.
const settings = (await call("GET", path)).data;
assert.equal(settings.profile_settings.base_style, "Friendly");
assert.equal(settings.memory_config.max_items, 10);

// A change names only what is to change, in groups, too. The answer is always all settings.
const change = {
  profile_settings: { base_style: "Concise", nick_name: "Ann" },
  memory_config: { max_items: 20, min_similarity: 0.5 },
  advanced_settings: { web_search: true },
  enable_trace: true,
};
let changed = (await call("PATCH", path, change)).data;
assert.equal(changed.profile_settings.nick_name, "Ann");
assert.deepEqual(changed.memory_config, { ...settings.memory_config, ...change.memory_config });
assert.ok(changed.advanced_settings.web_search_enabled);
console.log("changed three groups, kept the rest");

changed = (await call("PATCH", path, { profile_settings: { occupation: "Sailor" } })).data;
assert.equal(changed.profile_settings.base_style, "Concise");

// Preferences are the client's own; any key is allowed. null takes one away.
const wanted = { selected_model: "jan-demo", theme: { dark: true } };
await call("PATCH", `${path}/preferences`, { preferences: wanted });
const { preferences } = (await call("GET", `${path}/preferences`)).data;
assert.deepEqual([preferences.selected_model, preferences.theme], ["jan-demo", { dark: true }]);
console.log("remembered the model and the theme");

// What is wrong is named, and then nothing is changed.
const rude = { profile_settings: { base_style: "Rude", nick_name: "Bob" } };
const { error } = await call("PATCH", path, rude, 400);
assert.equal(error.param, "profile_settings.base_style");
assert.equal((await call("GET", path)).data.profile_settings.nick_name, "Ann");
console.log("refused:", error.message);
