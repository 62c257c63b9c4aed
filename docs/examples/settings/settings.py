"""Settings of a user: read, changed group by group, with preferences of the client's own."""

import os

import httpx

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"

SETTINGS = "/v1/users/me/settings"

# Everybody has settings, with their defaults from the beginning.
settings = api.get(SETTINGS).raise_for_status().json()["data"]
assert settings["profile_settings"]["base_style"] == "Friendly"
assert settings["memory_config"]["max_items"] == 10

# A change names only what is to change, in groups, too. The answer is always all settings.
change = {
    "profile_settings": {"base_style": "Concise", "nick_name": "Ann"},
    "memory_config": {"max_items": 20, "min_similarity": 0.5},
    "advanced_settings": {"web_search": True},
    "enable_trace": True,
}
changed = api.patch(SETTINGS, json=change).raise_for_status().json()["data"]
assert changed["profile_settings"]["nick_name"] == "Ann"
assert changed["memory_config"] == {**settings["memory_config"], **change["memory_config"]}
assert changed["advanced_settings"]["web_search_enabled"]
print("changed three groups, kept the rest")

changed = api.patch(SETTINGS, json={"profile_settings": {"occupation": "Sailor"}}).raise_for_status().json()["data"]
assert changed["profile_settings"]["base_style"] == "Concise"

# Preferences are the client's own; any key is allowed. None (null) takes one away.
wanted = {"selected_model": "jan-demo", "theme": {"dark": True}}
api.patch(f"{SETTINGS}/preferences", json={"preferences": wanted}).raise_for_status()
preferences = api.get(f"{SETTINGS}/preferences").raise_for_status().json()["data"]["preferences"]
assert preferences["theme"] == {"dark": True}
assert preferences["selected_model"] == "jan-demo"
print("remembered the model and the theme")

# What is wrong is named, and then nothing is changed.
refused = api.patch(SETTINGS, json={"profile_settings": {"base_style": "Rude", "nick_name": "Bob"}})
error = refused.json()["error"]
assert (refused.status_code, error["param"]) == (400, "profile_settings.base_style")
assert api.get(SETTINGS).raise_for_status().json()["data"]["profile_settings"]["nick_name"] == "Ann"
print("refused:", error["message"])
