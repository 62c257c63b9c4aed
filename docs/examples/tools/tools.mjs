// Tools over the Model Context Protocol: the list, a search, a page, texts that are found again, Python.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const { access_token } = await (await fetch(`${api}/auth/guest-login`, { method: "POST" })).json();
const headers = { Authorization: `Bearer ${access_token}` };

// What the server answers to one message of JSON-RPC.
async function ask(method, params = {}) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const answer = await fetch(`${api}/v1/mcp`, { method: "POST", headers, body });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text);
}

// What a tool says. Python is made ready for about a minute after the installation; until then this waits.
async function call(name, args) {
  for (;;) {
    const { result } = await ask("tools/call", { name, arguments: args });
    if (!result.isError || !result.content[0].text.includes("warming up")) return result.structuredContent;
    await sleep(2000);
  }
}

// Every tool says what it takes, as JSON Schema.
const { tools } = (await ask("tools/list")).result;
assert.deepEqual(tools.find((tool) => tool.name === "google_search").inputSchema.required, ["q"]);
console.log(tools.map((tool) => tool.name).join(", "));

// A search says which engine has answered. Without one there are no results, and a reason.
const found = await call("google_search", { q: "jan server", num: 3 });
assert.ok(found.live || (found.results.length === 0 && found.metadata.reason));
console.log("searched with:", found.engine);

// A page of the web is read, but never one from inside of the server's network. What a tool cannot do is a result.
const refused = await call("scrape", { url: "http://169.254.169.254/latest/meta-data" });
assert.equal(refused.error.code, "url_not_allowed");
console.log("refused:", refused.error.message);

// What is wrong with a call is an error of JSON-RPC.
const { error } = await ask("tools/call", { name: "scrape", arguments: {} });
assert.deepEqual([error.code, error.data], [-32602, { field: "url" }]);

// Texts are found by what they mean. The same id again replaces the text.
const tea = { document_id: "tea", text: "Green tea is brewed at eighty degrees.", tags: ["drinks"] };
assert.equal((await call("file_search_index", tea)).status, "indexed");
await call("file_search_index", { document_id: "bus", text: "The bus to the harbour leaves every ten minutes." });
const [best] = (await call("file_search_query", { query: "How hot should the water be?", top_k: 1 })).results;
assert.deepEqual([best.document_id, best.tags], ["tea", ["drinks"]]);
console.log("found:", best.text_preview);
assert.equal((await call("file_search_delete", { document_ids: ["tea", "bus"] })).count, 2);

// Python has a session, with variables and files. What its last expression is worth is printed.
const { session_id } = await call("python_exec", { code: "numbers = [1, 2, 3]" });
const ran = await call("python_exec", { code: "sum(numbers) * 7", session_id });
assert.deepEqual([ran.stdout, ran.error], ["42\n", null]);
console.log("computed:", ran.stdout.trim());

// A program that fails is a result as well.
assert.equal((await call("python_exec", { code: "1 / 0" })).error, "ZeroDivisionError: division by zero");

// Figures become images of the caller, and have a URL for some minutes.
const code = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()";
const [figure] = (await call("python_exec", { code })).artifacts;
const image = await fetch(figure.url);
assert.deepEqual([image.status, (await image.blob()).type], [200, "image/png"]);
console.log("drawn:", figure.name);
