"""Models: what can be called, what each of them can do, and where it comes from.

pip install openai
"""

import os

import httpx
import openai

url = os.environ.get("BASE_URL", "http://localhost:8000")
token = httpx.post(f"{url}/auth/guest-login").raise_for_status().json()["access_token"]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)
api = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

# OpenAI's list, which every OpenAI client can read. An id of it is what requests name as "model".
models = [model.id for model in client.models.list()]
assert client.models.retrieve(models[0]).id == models[0]
print("the first model is", models[0])

# What is known of each: the catalog.
row = api.get(f"/v1/models/catalogs/{models[0]}").raise_for_status().json()["data"]
assert row["id"] == models[0]
print(row["name"], "can:", ", ".join(row["capabilities"]))

# Those that can do something: text, vision, audio, embeddings, reasoning, tools and so on.
found = api.get("/v1/models/catalogs", params={"capability": "embeddings"}).raise_for_status().json()["data"]
vectors = client.embeddings.create(model=found[0]["id"], input=["warm", "cold"])
assert [vector.index for vector in vectors.data] == [0, 1]
print(found[0]["id"], "makes embeddings of", len(vectors.data[0].embedding), "numbers")

provider = api.get("/v1/models/providers").raise_for_status().json()["data"][0]
print("the first provider is", provider["name"], "- a", provider["vendor"])

try:
    client.models.retrieve("no-such-model")
    raise SystemExit("a model that does not exist was found")
except openai.NotFoundError as missing:
    assert missing.code == "model_not_found"
