"""Messages: added, listed, changed, answered, generated anew, shared with the public, deleted."""

import os

import httpx

model = os.environ.get("MODEL", "jan-demo")
api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=60)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"
conversation = api.post("/v1/conversations", json={}).raise_for_status().json()["data"]["id"]
items = f"/v1/conversations/{conversation}/items"

# One message. It is kept, and nothing is generated. Content comes back as it was given, a text or a list of parts.
wanted = {"role": "user", "content": "Is it warm in Lisbon?"}
question = api.post(items, json=wanted).raise_for_status().json()["data"]
assert question["status"] == "completed"

# Many at once.
parts = [{"type": "text", "text": "And in winter?"}]
both = [
    {"role": "assistant", "content": "Usually, yes."},
    {"role": "user", "content": parts, "metadata": {"client": "example"}},
]
added = api.post(items, json={"items": both}).raise_for_status().json()["data"]
assert added[1]["content"] == parts
print("added three messages")

# The oldest come first; order=desc turns that round. Cursors work as for conversations.
page = api.get(items, params={"limit": 2}).raise_for_status().json()
assert page["first_id"] == question["id"]
rest = api.get(items, params={"limit": 2, "after": page["next_after"]}).raise_for_status().json()
assert not rest["has_more"]
newest = api.get(items, params={"order": "desc", "limit": 1}).raise_for_status().json()
assert newest["last_id"] == rest["last_id"] == added[1]["id"]

# A change is made in place: same id, same position.
first = f"{items}/{question['id']}"
changed = api.patch(first, json={"content": "Is it warm in Porto?"}).raise_for_status().json()["data"]
assert changed["id"] == question["id"]
assert api.get(first).raise_for_status().json()["data"]["content"] == "Is it warm in Porto?"
print("changed the first one")

# A chat in the conversation adds the message and its answer.
chat = {"model": model, "conversation": conversation, "messages": [{"role": "user", "content": "In short?"}]}
api.post("/v1/chat/completions", json=chat).raise_for_status()
answer = api.get(items, params={"order": "desc", "limit": 1}).raise_for_status().json()["data"][0]
assert answer["role"] == "assistant"

# The answer once more: a new item takes the place of the old one.
anew = api.post(f"{items}/{answer['id']}/regenerate", json={"temperature": 0.9}).raise_for_status().json()["data"]
assert anew["id"] != answer["id"]
assert api.get(f"{items}/{answer['id']}").status_code == 404
print("answered again:", anew["content"].splitlines()[0])

# A share is a copy as it is now, for everybody who has the link, until it expires or is revoked.
wanted = {"title": "The weather", "expires_in": 86400}
share = api.post(f"/v1/conversations/{conversation}/share", json=wanted).raise_for_status().json()["data"]
public = api.base_url.join(f"/v1/public/shares/{share['slug']}")
copy = httpx.get(public).raise_for_status().json()["data"]
assert copy["items"][0]["content"] == "Is it warm in Porto?"
print("shared as", share["share_link"])
shares = api.get("/v1/shares").raise_for_status().json()["data"]
assert [each["id"] for each in shares] == [share["id"]]

assert api.delete(f"/v1/shares/{share['id']}").status_code == 204
revoked = httpx.get(public)
assert (revoked.status_code, revoked.json()["error"]["code"]) == (410, "share_revoked")

assert api.delete(first).status_code == 204
assert api.get(items).raise_for_status().json()["total_count"] == 4
print("revoked the share and deleted the first message")
