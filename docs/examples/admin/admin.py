"""Administration: models switched and described, catalogs, a provider made, read anew and deleted.

ADMIN_EMAIL and ADMIN_PASSWORD are those of an administrator, UPSTREAM_URL an engine with models.
"""

import os
import secrets

import httpx

MODELS, CATALOGS = "/v1/admin/models/provider-models", "/v1/admin/models/catalogs"
PROVIDERS = "/v1/admin/providers"
upstream = os.environ.get("UPSTREAM_URL", "http://localhost:11434/v1")  # where Ollama listens

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)
login = {"email": os.environ["ADMIN_EMAIL"], "password": os.environ["ADMIN_PASSWORD"]}
token = api.post("/auth/login", json=login).raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"

# A provider is an upstream that has models. Making one reads its list at once; the key is never shown again.
name = f"example-{secrets.token_hex(4)}"
wanted = {"name": name, "vendor": "custom", "base_url": upstream, "api_key": "sk-of-the-upstream"}
made = api.post(PROVIDERS, json=wanted)
assert made.status_code == 201, made.text
provider = made.json()["data"]
print(f"made {name}, its key ends with {provider['key_hint']}")
synced = api.post(f"{PROVIDERS}/{provider['id']}/sync").raise_for_status().json()["data"]
assert synced["unavailable"] == 0

# Its models: one row for each model of each provider. Other filters: provider, enabled, capability, family, search.
rows = api.get(MODELS, params={"provider_id": provider["id"]}).raise_for_status().json()
row = rows["data"][0]
print("it has", rows["total_count"], "model(s), among them", row["model_id"])

# What is set holds for the next request, in every process; None (null) takes it back.
path = f"{MODELS}/{row['id']}"
change = {"default_temperature": 0.3, "rate_limit": {"requests_per_minute": 600}, "tags": ["example"]}
changed = api.patch(path, json={**change, "reason": "trying it"}).raise_for_status().json()["data"]
assert changed["rate_limit"]["requests_per_minute"] == 600
changed = api.patch(path, json=dict.fromkeys(change)).raise_for_status().json()["data"]
assert changed["tags"] == []
assert api.get(path).raise_for_status().json()["data"]["model_id"] == row["model_id"]
print("limited and freed", row["model_id"])

# Many at once, by row or by model.
off = {"model_ids": [row["id"], "no-such-model"], "enabled": False, "reason": "maintenance"}
toggled = api.post(f"{MODELS}/bulk-toggle", json=off).raise_for_status().json()["data"]
assert (toggled["changed_count"], toggled["not_found"]) == (1, ["no-such-model"])
resting = api.get(MODELS, params={"provider_id": provider["id"], "enabled": False}).raise_for_status().json()
assert row["id"] in [each["id"] for each in resting["data"]]
api.post(f"{MODELS}/bulk-toggle", json={"model_ids": [row["id"]], "enabled": True}).raise_for_status()
print("switched it off and on")

# Catalogs say what is known of a model, whoever offers it, and what it has been used for.
catalog = api.get(f"{CATALOGS}/{row['model_id']}").raise_for_status().json()["data"]
description = {"description": "A model for examples.", "context_window": 8192}
described = api.patch(f"{CATALOGS}/{catalog['public_id']}", json=description).raise_for_status().json()["data"]
assert described["status"] == "updated"
on = {"catalog_ids": [catalog["public_id"]], "enabled": True}
assert api.post(f"{CATALOGS}/bulk-toggle", json=on).raise_for_status().json()["data"]["count"] == 1
updated = api.get(CATALOGS, params={"status": "updated"}).raise_for_status().json()["data"]
assert catalog["public_id"] in [each["public_id"] for each in updated]
print(f"described {catalog['public_id']}, used {catalog['total_requests']} times")

# Resting, then gone with its models.
path = f"{PROVIDERS}/{provider['id']}"
assert api.patch(path, json={"active": False}).raise_for_status().json()["data"]["active"] is False
assert api.delete(path).status_code == 204
assert api.get(path).status_code == 404
print("deleted", name)

# Nobody else may do any of this.
guest = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
refused = api.get(PROVIDERS, headers={"Authorization": f"Bearer {guest}"})
assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_required")
