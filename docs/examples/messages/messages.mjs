// Messages: added, listed, changed, answered, generated anew, shared with the public, deleted.

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
const conversation = (await call("POST", "/v1/conversations")).data.id;
const items = `/v1/conversations/${conversation}/items`;

// One message. It is kept, and nothing is generated. Content comes back as it was given, a text or a list of parts.
const question = await call("POST", items, { role: "user", content: "Is it warm in Lisbon?" });
assert.equal(question.data.status, "completed");

// Many at once.
const parts = [{ type: "text", text: "And in winter?" }];
const added = await call("POST", items, {
  items: [
    { role: "assistant", content: "Usually, yes." },
    { role: "user", content: parts, metadata: { client: "example" } },
  ],
});
assert.deepEqual(added.data[1].content, parts);
console.log("added three messages");

// The oldest come first; order=desc turns that round. Cursors work as for conversations.
const page = await call("GET", `${items}?limit=2`);
assert.equal(page.first_id, question.data.id);
const rest = await call("GET", `${items}?limit=2&after=${page.next_after}`);
assert.equal(rest.has_more, false);
const newest = await call("GET", `${items}?order=desc&limit=1`);
assert.equal(newest.last_id, rest.last_id);

// A change is made in place: same id, same position.
const first = `${items}/${question.data.id}`;
const changed = await call("PATCH", first, { content: "Is it warm in Porto?" });
assert.equal(changed.data.id, question.data.id);
assert.equal((await call("GET", first)).data.content, "Is it warm in Porto?");
console.log("changed the first one");

// A chat in the conversation adds the message and its answer.
const messages = [{ role: "user", content: "In short?" }];
await call("POST", "/v1/chat/completions", { model, conversation, messages });
const answer = (await call("GET", `${items}?order=desc&limit=1`)).data[0];
assert.equal(answer.role, "assistant");

// The answer once more: a new item takes the place of the old one.
const anew = await call("POST", `${items}/${answer.id}/regenerate`, { temperature: 0.9 });
assert.notEqual(anew.data.id, answer.id);
await call("GET", `${items}/${answer.id}`, undefined, 404);
console.log("answered again:", anew.data.content.split("\n")[0]);

// A share is a copy as it is now, for everybody who has the link, until it expires or is revoked.
const wanted = { title: "The weather", expires_in: 86400 };
const share = (await call("POST", `/v1/conversations/${conversation}/share`, wanted, 201)).data;
const address = `${api}/v1/public/shares/${share.slug}`;
const copy = await (await fetch(address)).json();
assert.equal(copy.data.items[0].content, "Is it warm in Porto?");
console.log("shared as", share.share_link);
assert.deepEqual((await call("GET", "/v1/shares")).data.map((each) => each.id), [share.id]);

await call("DELETE", `/v1/shares/${share.id}`, undefined, 204);
const revoked = await fetch(address);
assert.deepEqual([revoked.status, (await revoked.json()).error.code], [410, "share_revoked"]);

await call("DELETE", first, undefined, 204);
assert.equal((await call("GET", items)).total_count, 4);
console.log("revoked the share and deleted the first message");
