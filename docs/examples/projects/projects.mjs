// Projects: folders of conversations with an instruction that models get in each of them.

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

const wanted = { name: "Travel", instruction: "Answer in one sentence.", is_favorite: true };
const project = (await call("POST", "/v1/projects", wanted, 201)).data.id;
console.log("made", project);

// Conversations are made in a project, or moved there later.
const inside = (await call("POST", "/v1/conversations", { project_id: project })).data.id;
const moved = (await call("POST", "/v1/conversations")).data.id;
const after = await call("PATCH", `/v1/conversations/${moved}`, { project_id: project });
assert.equal(after.data.project_id, project);

// The model is sent the instruction before what was said.
const messages = [{ role: "user", content: "Where is it warm in March?" }];
const answer = await call("POST", "/v1/chat/completions", { model, conversation: inside, messages });
assert.equal(answer.conversation.id, inside);
console.log("answered:", answer.choices[0].message.content.split("\n")[0]);

const listed = await call("GET", `/v1/projects/${project}/conversations`);
assert.deepEqual(listed.data.map((row) => row.id).sort(), [inside, moved].sort());
const favorites = await call("GET", "/v1/projects?is_favorite=true&search=trav");
assert.equal(favorites.data[0].conversation_count, 2);
console.log("listed its two conversations");

// null takes the instruction away.
const change = { name: "Travel 2026", instruction: null, is_archived: true };
assert.ok((await call("PATCH", `/v1/projects/${project}`, change)).data.is_archived);
assert.equal((await call("GET", `/v1/projects/${project}`)).data.name, "Travel 2026");
console.log("renamed and archived");

// Its conversations stay, without a project.
assert.ok((await call("DELETE", `/v1/projects/${project}`)).data.deleted);
const left = await call("GET", "/v1/conversations");
assert.deepEqual(left.data.map((row) => row.project_id ?? null), [null, null]);
console.log("deleted; its conversations are still there");
