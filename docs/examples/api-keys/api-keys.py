"""API keys: made, used by programs, limited to reading, listed, revoked.

pip install openai
"""

import os

import httpx
import openai

url = os.environ.get("BASE_URL", "http://localhost:8000")
model = os.environ.get("MODEL", "jan-demo")
api = httpx.Client(base_url=url, timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
signed_in = {"Authorization": f"Bearer {token}"}

# The key itself is shown this once.
wanted = {"name": "nightly job", "expires_in_days": 30}
made = api.post("/auth/api-keys", headers=signed_in, json=wanted).raise_for_status().json()["data"]
key = made["key"]
print(f"made {made['prefix']}...{made['suffix']}")

# It is sent in a header of its own, or where OpenAI's clients send theirs.
me = api.get("/auth/me", headers={"X-API-Key": key}).raise_for_status().json()["data"]
assert me["auth_method"] == "api_key"
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello!"}])
assert answer.choices[0].finish_reason == "stop"
print("it may chat")

# A key that can only read.
wanted = {"name": "dashboard", "scopes": ["read"]}
reader = {
    "X-API-Key": api.post("/auth/api-keys", headers=signed_in, json=wanted).raise_for_status().json()["data"]["key"]
}
api.get("/v1/conversations", headers=reader).raise_for_status()
refused = api.post("/v1/conversations", headers=reader)
assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
print("a reader may not write")

# Keys are made, listed and revoked with a token, not with a key. Lists never show the key.
keys = api.get("/auth/api-keys", headers=signed_in).raise_for_status().json()["data"]
assert {row["name"] for row in keys} == {"nightly job", "dashboard"}
assert not any("key" in row for row in keys)

assert api.delete(f"/auth/api-keys/{made['id']}", headers=signed_in).status_code == 204
try:
    client.models.list()
    raise SystemExit("a revoked key was accepted")
except openai.AuthenticationError as revoked:
    assert revoked.code == "unauthorized"
print("revoked")
