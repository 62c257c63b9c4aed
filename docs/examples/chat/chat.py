"""Chat completions: a whole answer, a stream, an answer inside a conversation, and what an error looks like.

pip install openai
"""

import os

import httpx
import openai

url = os.environ.get("BASE_URL", "http://localhost:8000")
model = os.environ.get("MODEL", "jan-demo")
token = httpx.post(f"{url}/auth/guest-login").raise_for_status().json()["access_token"]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)

answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello!"}], temperature=0.7)
assert answer.choices[0].finish_reason == "stop"
assert answer.choices[0].message.content
assert answer.usage
print("answered:", answer.choices[0].message.content.splitlines()[0])
print("tokens:", answer.usage.total_tokens)

stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Count to three."}],
    stream=True,
    stream_options={"include_usage": True},
)
words = []
for chunk in stream:
    words += [choice.delta.content or "" for choice in chunk.choices]
assert chunk.usage
print("streamed:", "".join(words).splitlines()[0], f"({chunk.usage.completion_tokens} tokens)")

# In a conversation only what is new is sent: the server has the rest, and keeps the answer.
signed_in = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
conversation = signed_in.post("/v1/conversations", json={}).raise_for_status().json()["data"]["id"]
for text in ("My name is Ann.", "What is my name?"):
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        stream=True,
        extra_body={"conversation": conversation},
    )
    print("".join(chunk.choices[0].delta.content or "" for chunk in stream).splitlines()[0])
items = signed_in.get(f"/v1/conversations/{conversation}/items").raise_for_status().json()
assert [item["role"] for item in items["data"]] == ["user", "assistant", "user", "assistant"]
print("the conversation has both turns")

try:
    client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "Hello!"}])
    raise SystemExit("a model that does not exist has answered")
except openai.NotFoundError as refused:
    assert refused.code == "model_not_found"
    print("refused:", refused.message)
