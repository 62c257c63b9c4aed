// What a user of OpenAI's JavaScript SDK does; test_openai_node.py scripts the upstream and judges what is printed.
//
//   node scenes.mjs <scene> <base url> <token>       one line of JSON for each thing seen

import OpenAI from "openai";

const [scene, baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "Hello!" }];
const saw = (value) => console.log(JSON.stringify(value));

const failure = (error) => ({
  name: error.constructor.name,
  status: error.status,
  code: error.code,
  param: error.param,
  requestID: error.requestID,
  retryAfter: error.headers?.get("retry-after"),
});

const scenes = {
  async chat() {
    const { data, request_id } = await client.chat.completions
      .create({ model: "fake", messages, top_k: 40 }, { headers: { "x-request-id": "from-node" } })
      .withResponse();
    saw({ content: data.choices[0].message.content, usage: data.usage, request_id });
  },

  async stream() {
    const options = { include_usage: true };
    const chunks = await client.chat.completions.create({ model: "fake", messages, stream: true, stream_options: options });
    for await (const chunk of chunks) saw({ said: chunk.choices[0]?.delta.content ?? null, usage: chunk.usage ?? null });
  },

  async tools() {
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
    const final = await client.chat.completions.stream({ model: "fake", messages, tools }).finalChatCompletion();
    saw({ finish_reason: final.choices[0].finish_reason, calls: final.choices[0].message.tool_calls });
  },

  async errors() {
    const attempts = [
      () => client.chat.completions.create({ model: "nobody", messages }),
      () => client.chat.completions.create({ model: "fake", messages: [{ role: "user", content: 5 }] }),
      () => client.chat.completions.create({ model: "fake", messages }),
      () => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list(),
      () => client.models.retrieve("nobody/nowhere"),
    ];
    for (const attempt of attempts) await attempt().catch((error) => saw(failure(error)));
  },

  async broken() {
    const chunks = await client.chat.completions.create({ model: process.argv[5], messages, stream: true });
    try {
      for await (const chunk of chunks) saw({ said: chunk.choices[0].delta.content });
      saw("complete");
    } catch (error) {
      saw(failure(error));
    }
  },

  async embeddings() {
    const answered = await client.embeddings.create({ model: "all-minilm-l6-v2", input: ["one", "two"] });
    saw(answered.data.map((each) => each.embedding.length));
    const passed = await client.embeddings.create({ model: "fake", input: "one", encoding_format: "float" });
    saw(passed.data[0].embedding);
  },

  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    saw([ids.includes("org/team/fake"), (await client.models.retrieve("org/team/fake")).id]);
  },

  async abort() {
    const chunks = await client.chat.completions.create({ model: "fake", messages, stream: true });
    for await (const chunk of chunks) {
      saw({ said: chunk.choices[0].delta.content });
      chunks.controller.abort();
    }
  },
};

await scenes[scene]();
