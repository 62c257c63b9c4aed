"""Conversations: made, read, listed page by page, found, changed, deleted."""

import os

import httpx

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"

# All members are optional. Metadata is yours: up to 16 short texts.
wanted = {
    "title": "Rain in Lisbon",
    "metadata": {"source": "example"},
    "items": [{"role": "user", "content": "Will it rain tomorrow?"}],
}
made = api.post("/v1/conversations", json=wanted).raise_for_status().json()["data"]
path = f"/v1/conversations/{made['id']}"
print("made", made["id"])

found = api.get(path).raise_for_status().json()["data"]
assert found["items"][0]["content"] == "Will it rain tomorrow?"
assert found["metadata"] == {"source": "example"}

for number in range(1, 5):
    api.post("/v1/conversations", json={"title": f"Chat {number}"}).raise_for_status()

# Page by page: the cursor for the next page is the id of the last row, and stays valid when new rows come in between.
seen, after = [], ""
while after is not None:
    page = api.get("/v1/conversations", params={"limit": 2, "after": after}).raise_for_status().json()
    seen += [row["id"] for row in page["data"]]
    after = page.get("next_after")
assert len(set(seen)) == len(seen) == page["total_count"]
print("listed", len(seen), "conversations, two at a time")

found = api.get("/v1/conversations", params={"search": "lisbon"}).raise_for_status().json()
assert [row["id"] for row in found["data"]] == [made["id"]]

# PATCH changes what is named; metadata is replaced as a whole, an empty text removes.
change = {"title": "Weather", "metadata": {"source": "example", "city": "Lisbon"}, "is_archived": True}
changed = api.patch(path, json=change).raise_for_status().json()["data"]
assert (changed["title"], changed["is_archived"]) == ("Weather", True)
archived = api.get("/v1/conversations", params={"is_archived": True}).raise_for_status().json()
assert archived["total_count"] == 1
print("renamed and archived")

assert api.delete(path).status_code == 204
gone = api.get(path)
assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")

# Many at once: what was not there is named in failed_ids.
last = next(conversation for conversation in seen if conversation != made["id"])
wanted = {"conversation_ids": [last, made["id"]]}
deleted = api.post("/v1/conversations/bulk-delete", json=wanted).raise_for_status().json()["data"]
assert (deleted["deleted_count"], deleted["failed_ids"]) == (1, [made["id"]])
print("deleted one by one and many at once")
