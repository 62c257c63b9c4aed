// Chat completions: a whole answer, a stream, an answer inside a conversation, and what an error looks like.
//
//   npm install openai

import assert from "node:assert/strict";
import OpenAI from "openai";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const model = process.env.MODEL ?? "jan-demo";
const { access_token } = await (await fetch(`${api}/auth/guest-login`, { method: "POST" })).json();
const client = new OpenAI({ baseURL: `${api}/v1`, apiKey: access_token });
const firstLine = (text) => text.split("\n")[0];

const answer = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Hello!" }],
  temperature: 0.7,
});
assert.equal(answer.choices[0].finish_reason, "stop");
console.log("answered:", firstLine(answer.choices[0].message.content));
console.log("tokens:", answer.usage.total_tokens);

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Count to three." }],
  stream: true,
  stream_options: { include_usage: true },
});
let words = "";
let usage;
for await (const chunk of stream) {
  words += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
console.log("streamed:", firstLine(words), `(${usage.completion_tokens} tokens)`);

// In a conversation only what is new is sent: the server has the rest, and keeps the answer.
const headers = { Authorization: `Bearer ${access_token}` };
const made = await fetch(`${api}/v1/conversations`, { method: "POST", headers });
const conversation = (await made.json()).data.id;
for (const content of ["My name is Ann.", "What is my name?"]) {
  const messages = [{ role: "user", content }];
  const chunks = await client.chat.completions.create({ model, messages, stream: true, conversation });
  let said = "";
  for await (const chunk of chunks) said += chunk.choices[0].delta.content ?? "";
  console.log(firstLine(said));
}
const items = await (await fetch(`${api}/v1/conversations/${conversation}/items`, { headers })).json();
assert.deepEqual(items.data.map((item) => item.role), ["user", "assistant", "user", "assistant"]);
console.log("the conversation has both turns");

try {
  await client.chat.completions.create({ model: "no-such-model", messages: [{ role: "user", content: "Hello!" }] });
  assert.fail("a model that does not exist has answered");
} catch (refused) {
  assert.equal(refused.code, "model_not_found");
  console.log("refused:", refused.message);
}
