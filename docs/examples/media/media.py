"""Images: brought in four ways, shown to a model, shared, downloaded, deleted."""

import base64
import os
import struct
import zlib

import httpx

BASE_URL = os.environ.get("BASE_URL", "http://localhost:8000")
MODEL = os.environ.get("MODEL", "jan-demo")
api = httpx.Client(base_url=BASE_URL, timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"


def square(color: bytes) -> bytes:
    """A PNG of 8 x 8 pixels in one color, three bytes of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + 8 * color) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# As a data URL. Somebody may have brought the same image before; it has one id in any case.
image = square(os.urandom(3))
data_url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
source = {"type": "data_url", "data_url": data_url}
media = api.post("/v1/media", json={"source": source, "filename": "square.png"}).raise_for_status().json()
assert (media["mime"], media["bytes"]) == ("image/png", len(image))
print("brought", media["mime"])

# As a form. The same bytes are the same image.
again = api.post("/v1/media/upload", files={"file": ("other.png", image)}).raise_for_status().json()
assert (again["id"], again["deduped"]) == (media["id"], True)
print("brought again, same id")

# Past the server: an id and a form for whoever has the bytes, without a credential. A PUT to `upload_url` does as well.
second = square(os.urandom(3))
prepared = api.post("/v1/media/prepare-upload", json={"content_type": "image/png"}).raise_for_status().json()
form = prepared["presigned_post"]
assert api.get(f"/v1/media/{prepared['jan_id']}").json()["error"]["code"] == "upload_pending"
sent = httpx.post(form["url"], data=form["fields"], files={"file": second})
assert sent.status_code == 204, sent.text
assert api.get(f"/v1/media/{prepared['jan_id']}").raise_for_status().json()["bytes"] == len(second)
print("uploaded past the server")

# From somewhere else, but never from inside of the server's network.
inside = {"type": "remote_url", "url": "http://169.254.169.254/latest/meta-data"}
refused = api.post("/v1/media", json={"source": inside})
assert (refused.status_code, refused.json()["error"]["code"]) == (400, "url_not_allowed")
print("refused:", refused.json()["error"]["message"])

# The id stands for the image wherever a prompt can have one; a conversation keeps it.
conversation = api.post("/v1/conversations", json={}).raise_for_status().json()["data"]["id"]
question = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": media["id"]}},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{prepared['jan_id']}"}},
]
asked = {"model": MODEL, "conversation": conversation, "messages": [{"role": "user", "content": question}]}
answer = api.post("/v1/chat/completions", json=asked).raise_for_status().json()
print(answer["choices"][0]["message"]["content"].splitlines()[-1])

# Who reads a share has no right to the images in it, so gets signed URLs.
share = api.post(f"/v1/conversations/{conversation}/share", json={}).raise_for_status().json()["data"]
shared = httpx.get(f"{BASE_URL}/v1/public/shares/{share['slug']}").raise_for_status().json()["data"]
link = shared["items"][0]["content"][1]["image_url"]["url"]
assert httpx.get(link).raise_for_status().content == image
print("shared")

# The bytes, whole or in part; signed URLs, of many at once or of a whole payload.
content = f"/v1/media/{media['id']}/content"
assert api.get(content).raise_for_status().content == image
assert api.get(content, headers={"Range": "bytes=1-3"}).raise_for_status().text == "PNG"
resolved = api.post("/v1/media/resolve", json={"ids": [media["id"], "unknown"]}).raise_for_status().json()
assert resolved["missing"] == ["unknown"]
assert httpx.get(resolved["media"][0]["presigned_url"]).raise_for_status().content == image
payload = api.post("/v1/media/resolve", json={"payload": {"content": question}}).raise_for_status().json()["payload"]
assert httpx.get(payload["content"][2]["image_url"]["url"]).raise_for_status().content == second
print("read")

for each in (media["id"], prepared["jan_id"]):
    assert api.delete(f"/v1/media/{each}").status_code == 204
assert api.get(content).status_code == 404
print("deleted")
