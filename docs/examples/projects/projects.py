"""Projects: folders of conversations with an instruction that models get in each of them."""

import os

import httpx

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"

model = os.environ.get("MODEL", "jan-demo")

wanted = {"name": "Travel", "instruction": "Answer in one sentence.", "is_favorite": True}
made = api.post("/v1/projects", json=wanted)
assert made.status_code == 201, made.text
project = made.json()["data"]["id"]
print("made", project)

# Conversations are made in a project, or moved there later.
inside = api.post("/v1/conversations", json={"project_id": project}).raise_for_status().json()["data"]["id"]
moved = api.post("/v1/conversations", json={}).raise_for_status().json()["data"]["id"]
after = api.patch(f"/v1/conversations/{moved}", json={"project_id": project}).raise_for_status().json()["data"]
assert after["project_id"] == project

# The model is sent the instruction before what was said.
chat = {"model": model, "conversation": inside, "messages": [{"role": "user", "content": "Where is it warm in March?"}]}
answer = api.post("/v1/chat/completions", json=chat).raise_for_status().json()
assert answer["conversation"]["id"] == inside
print("answered:", answer["choices"][0]["message"]["content"].splitlines()[0])

listed = api.get(f"/v1/projects/{project}/conversations").raise_for_status().json()
assert {row["id"] for row in listed["data"]} == {inside, moved}
favorites = api.get("/v1/projects", params={"is_favorite": True, "search": "trav"}).raise_for_status().json()
assert [row["conversation_count"] for row in favorites["data"]] == [2]
print("listed its two conversations")

# None (null) takes the instruction away.
change = {"name": "Travel 2026", "instruction": None, "is_archived": True}
changed = api.patch(f"/v1/projects/{project}", json=change).raise_for_status().json()["data"]
assert changed["is_archived"]
assert api.get(f"/v1/projects/{project}").raise_for_status().json()["data"]["name"] == "Travel 2026"
print("renamed and archived")

# Its conversations stay, without a project.
assert api.delete(f"/v1/projects/{project}").raise_for_status().json()["data"]["deleted"]
left = api.get("/v1/conversations").raise_for_status().json()["data"]
assert [row.get("project_id") for row in left] == [None, None]
print("deleted; its conversations are still there")
