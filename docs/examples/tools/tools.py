"""Tools over the Model Context Protocol: the list, a search, a page, texts that are found again, Python."""

import os
import time

import httpx

api = httpx.Client(base_url=os.environ.get("BASE_URL", "http://localhost:8000"), timeout=60)
token = api.post("/auth/guest-login").raise_for_status().json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"


def ask(method: str, **params: object) -> dict:
    """What the server answers to one message of JSON-RPC."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return api.post("/v1/mcp", json=message).raise_for_status().json()


def call(name: str, **arguments: object) -> dict:
    """What a tool says. Python is made ready for about a minute after the installation; until then this waits."""
    while True:
        result = ask("tools/call", name=name, arguments=arguments)["result"]
        if not (result["isError"] and "warming up" in result["content"][0]["text"]):
            return result["structuredContent"]
        time.sleep(2)


# Every tool says what it takes, as JSON Schema.
tools = {tool["name"]: tool for tool in ask("tools/list")["result"]["tools"]}
assert tools["google_search"]["inputSchema"]["required"] == ["q"]
print(", ".join(tools))

# A search says which engine has answered. Without one there are no results, and a reason.
found = call("google_search", q="jan server", num=3)
assert found["live"] or (found["results"] == [] and found["metadata"]["reason"])
print("searched with:", found["engine"])

# A page of the web is read, but never one from inside of the server's network. What a tool cannot do is a result.
error = call("scrape", url="http://169.254.169.254/latest/meta-data")["error"]
assert error["code"] == "url_not_allowed"
print("refused:", error["message"])

# What is wrong with a call is an error of JSON-RPC.
error = ask("tools/call", name="scrape", arguments={})["error"]
assert (error["code"], error["data"]) == (-32602, {"field": "url"})

# Texts are found by what they mean. The same id again replaces the text.
tea = call("file_search_index", document_id="tea", text="Green tea is brewed at eighty degrees.", tags=["drinks"])
assert tea["status"] == "indexed"
call("file_search_index", document_id="bus", text="The bus to the harbour leaves every ten minutes.")
best = call("file_search_query", query="How hot should the water be?", top_k=1)["results"][0]
assert (best["document_id"], best["tags"]) == ("tea", ["drinks"])
print("found:", best["text_preview"])
assert call("file_search_delete", document_ids=["tea", "bus"])["count"] == 2

# Python has a session, with variables and files. What its last expression is worth is printed.
ran = call("python_exec", code="numbers = [1, 2, 3]")
ran = call("python_exec", code="sum(numbers) * 7", session_id=ran["session_id"])
assert (ran["stdout"], ran["error"]) == ("42\n", None)
print("computed:", ran["stdout"].strip())

# A program that fails is a result as well.
assert call("python_exec", code="1 / 0")["error"] == "ZeroDivisionError: division by zero"

# Figures become images of the caller, and have a URL for some minutes.
code = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"
figure = call("python_exec", code=code)["artifacts"][0]
image = httpx.get(figure["url"]).raise_for_status()
assert image.headers["content-type"] == "image/png"
print("drawn:", figure["name"])
