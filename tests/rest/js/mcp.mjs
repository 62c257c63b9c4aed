// What a user of the Model Context Protocol's TypeScript SDKs does; test_mcp_node.py judges what is printed.
//
//   node mcp.mjs <scene> <url> <name of a header>:<its value>       one line of JSON for each thing seen

import { Client as NewClient, StreamableHTTPClientTransport as NewTransport } from "@modelcontextprotocol/client";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [scene, url, header] = process.argv.slice(2);
const [name, value] = header.split(/:(.*)/s);
const requestInit = { headers: { [name]: value } };
const who = { name: "a-client-in-typescript", version: "1.0.0" };
const saw = (value) => console.log(JSON.stringify(value));

async function use(client, transport) {
  await client.connect(transport);
  saw(client.getServerVersion?.() ?? null);
  saw((await client.listTools()).tools.map((tool) => tool.name));
  const call = async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent;
  saw({ live: (await call("google_search", { q: "anything" })).live });
  saw((await call("scrape", { url: "http://169.254.169.254/" })).error.code);
  const { document_id } = await call("file_search_index", { text: "Green tea is brewed at eighty degrees." });
  const { results } = await call("file_search_query", { query: "How hot should the water be?" });
  saw(results.map((passage) => passage.document_id === document_id));
  saw((await call("file_search_delete", { document_ids: [document_id] })).count);
  const { session_id } = await call("python_exec", { code: "x = 6" });
  saw((await call("python_exec", { code: "x * 7", session_id })).stdout);
  await client.callTool({ name: "nothing" }).catch((error) => saw({ code: error.code, data: error.data }));
  await client.close();
}

const scenes = {
  // Version 1 of the SDK: the handshake.
  handshake: () => use(new OldClient(who), new OldTransport(new URL(url), { requestInit })),
  // Version 2, as it comes, and asked to speak the newest revision.
  default: () => use(new NewClient(who), new NewTransport(new URL(url), { requestInit })),
  modern: () =>
    use(
      new NewClient(who, { versionNegotiation: { mode: { pin: "2026-07-28" } } }),
      new NewTransport(new URL(url), { requestInit }),
    ),
};

await scenes[scene]();
