// Images: brought in four ways, shown to a model, shared, downloaded, deleted.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

const api = process.env.BASE_URL ?? "http://localhost:8000";
const model = process.env.MODEL ?? "jan-demo";
const { access_token } = await (await fetch(`${api}/auth/guest-login`, { method: "POST" })).json();
const headers = { Authorization: `Bearer ${access_token}` };

async function call(method, path, body, status = 200) {
  const json = body && !(body instanceof FormData);
  const answer = await fetch(api + path, { method, headers, body: json ? JSON.stringify(body) : body });
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  return text && JSON.parse(text);
}

async function bytes(url, options) {
  const answer = await fetch(url, options);
  assert.ok(answer.ok, url);
  return Buffer.from(await answer.arrayBuffer());
}

// A GIF of one pixel in one color, three bytes of it.
const pixel = (color) =>
  Buffer.concat([
    Buffer.from("GIF89a\x01\0\x01\0\x80\0\0", "latin1"),
    color,
    Buffer.from("\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;", "latin1"),
  ]);

// As a data URL. Somebody may have brought the same image before; it has one id in any case.
const image = pixel(randomBytes(3));
const source = { type: "data_url", data_url: `data:image/gif;base64,${image.toString("base64")}` };
const media = await call("POST", "/v1/media", { source, filename: "pixel.gif" });
assert.deepEqual([media.mime, media.bytes], ["image/gif", image.length]);
console.log("brought", media.mime);

// As a form. The same bytes are the same image.
const form = new FormData();
form.append("file", new Blob([image]), "other.gif");
const again = await call("POST", "/v1/media/upload", form);
assert.deepEqual([again.id, again.deduped], [media.id, true]);
console.log("brought again, same id");

// Past the server: an id and a form for whoever has the bytes, without a credential. A PUT to `upload_url` does as well.
const second = pixel(randomBytes(3));
const prepared = await call("POST", "/v1/media/prepare-upload", { content_type: "image/gif" });
const { url, fields } = prepared.presigned_post;
assert.equal((await call("GET", `/v1/media/${prepared.jan_id}`, undefined, 409)).error.code, "upload_pending");
const direct = new FormData();
for (const [name, value] of Object.entries(fields)) direct.append(name, value);
direct.append("file", new Blob([second]));
assert.equal((await fetch(url, { method: "POST", body: direct })).status, 204);
assert.equal((await call("GET", `/v1/media/${prepared.jan_id}`)).bytes, second.length);
console.log("uploaded past the server");

// From somewhere else, but never from inside of the server's network.
const inside = { type: "remote_url", url: "http://169.254.169.254/latest/meta-data" };
const { error } = await call("POST", "/v1/media", { source: inside }, 400);
assert.equal(error.code, "url_not_allowed");
console.log("refused:", error.message);

// The id stands for the image wherever a prompt can have one; a conversation keeps it.
const conversation = (await call("POST", "/v1/conversations", {})).data.id;
const content = [
  { type: "text", text: "What is this?" },
  { type: "image_url", image_url: { url: media.id } },
  { type: "image_url", image_url: { url: `data:image/gif;base64,${prepared.jan_id}` } },
];
const answer = await call("POST", "/v1/chat/completions", { model, conversation, messages: [{ role: "user", content }] });
console.log(answer.choices[0].message.content.split("\n").at(-1));

// Who reads a share has no right to the images in it, so gets signed URLs.
const share = (await call("POST", `/v1/conversations/${conversation}/share`, {}, 201)).data;
const shared = (await (await fetch(`${api}/v1/public/shares/${share.slug}`)).json()).data;
assert.deepEqual(await bytes(shared.items[0].content[1].image_url.url), image);
console.log("shared");

// The bytes, whole or in part; signed URLs, of many at once or of a whole payload.
const place = `${api}/v1/media/${media.id}/content`;
assert.deepEqual(await bytes(place, { headers }), image);
assert.equal(String(await bytes(place, { headers: { ...headers, Range: "bytes=0-2" } })), "GIF");
const resolved = await call("POST", "/v1/media/resolve", { ids: [media.id, "unknown"] });
assert.deepEqual(resolved.missing, ["unknown"]);
assert.deepEqual(await bytes(resolved.media[0].presigned_url), image);
const { payload } = await call("POST", "/v1/media/resolve", { payload: { content } });
assert.deepEqual(await bytes(payload.content[2].image_url.url), second);
console.log("read");

for (const id of [media.id, prepared.jan_id]) await call("DELETE", `/v1/media/${id}`, undefined, 204);
assert.equal((await fetch(place, { headers })).status, 404);
console.log("deleted");
