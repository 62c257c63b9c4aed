"""Signing in: as a guest, with a new pair of tokens, with an account and its password; signing out."""

import os
import secrets

import httpx

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=30)

# A guest needs nothing. The access token is for requests, the refresh token for a new pair.
tokens = api.post("/auth/guest-login").raise_for_status().json()
signed_in = {"Authorization": f"Bearer {tokens['access_token']}"}
me = api.get("/auth/me", headers=signed_in).raise_for_status().json()["data"]
assert me["is_guest"]
print("signed in as guest", me["id"])

# An access token lives for minutes. The refresh token buys a new pair, once.
tokens = api.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).raise_for_status().json()
signed_in = {"Authorization": f"Bearer {tokens['access_token']}"}
print("refreshed, good for", tokens["expires_in"], "s")

# A guest becomes an account and keeps its id, its conversations and its settings.
account = {"email": f"ann-{secrets.token_hex(4)}@example.com", "password": "correct horse battery"}
upgraded = api.post("/auth/upgrade", headers=signed_in, json={**account, "full_name": "Ann"}).raise_for_status().json()
assert upgraded["status"] == "upgraded"

tokens = api.post("/auth/login", json=account).raise_for_status().json()
assert tokens["user_id"] == me["id"]
print("logged in as", account["email"], "- the same user as before")

wrong = api.post("/auth/login", json={**account, "password": "wrong"})
assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_credentials")

# Signing out ends the session: its refresh token buys nothing any more.
session = {"refresh_token": tokens["refresh_token"]}
assert api.post("/auth/revoke", json=session).raise_for_status().json()["status"] == "revoked"
spent = api.post("/auth/refresh", json=session)
assert (spent.status_code, spent.json()["error"]["code"]) == (401, "invalid_grant")
assert api.get("/v1/models").status_code == 401
print("signed out")
