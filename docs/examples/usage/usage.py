"""Usage: how many requests and tokens a user has needed, by day, model, project or API key."""

import datetime
import os
import time

import httpx

model = os.environ.get("MODEL", "jan-demo")
api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"


def used(**query: str) -> dict:
    return api.get("/v1/usage/me", params=query).raise_for_status().json()["data"]


for number in (1, 2):
    chat = {"model": model, "messages": [{"role": "user", "content": f"Say {number}."}]}
    api.post("/v1/chat/completions", json=chat).raise_for_status()

# An answer is counted about a second after its end.
patience = time.monotonic() + 10
while (usage := used(group_by="model"))["requests"] < 2 and time.monotonic() < patience:
    time.sleep(0.1)
assert [(group["key"], group["requests"]) for group in usage["groups"]] == [(model, 2)]
print("2 requests to", model, "took", usage["total_tokens"], "tokens")

# Any period, in dates (the last day is included) or RFC 3339 times; without one it is the last 30 days.
today = datetime.datetime.now(datetime.UTC).date().isoformat()
usage = used(**{"from": today, "to": today, "group_by": "day"})
print("of these today:", usage["prompt_tokens"], "asked,", usage["completion_tokens"], "answered")

assert used(**{"from": "2020-01-01", "to": "2020-01-31"})["total_tokens"] == 0

refused = api.get("/v1/usage/me", params={"group_by": "colour"})
assert (refused.status_code, refused.json()["error"]["param"]) == (400, "group_by")
