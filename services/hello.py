"""`jan-server hello`: ask the running server what it offers, and say how to use it. `jan-server up` ends with it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from services import __version__
from services.runtime.config import Settings

NOT_FOR_CHAT = ("all-minilm-l6-v2",)
EVERYWHERE = ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104  # compared, not bound

BANNER = """
Jan Server {version} is up: {base}   (Ctrl-C stops it)
Models: {models}

  TOKEN=$(curl -s -X POST {base}/auth/guest-login | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
  curl {base}/v1/chat/completions -H "Authorization: Bearer $TOKEN" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  # pip install openai
  import httpx, openai
  token = httpx.post("{base}/auth/guest-login").json()["access_token"]
  client = openai.OpenAI(base_url="{base}/v1", api_key=token)
  chunks = client.chat.completions.create(
      model="{model}", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
  )
  for chunk in chunks:
      print(chunk.choices[0].delta.content or "", end="")
"""


def hello(settings: Settings) -> None:
    """Print the banner, with snippets that work as pasted."""
    host = "localhost" if settings.bind_address in EVERYWHERE else settings.bind_address
    base = f"http://{host}:{settings.gateway_port}"
    try:
        models = _models(base)
    except (OSError, ValueError) as error:  # it may serve others all the same: say so instead of failing
        models = [f"not known ({error})"]
    chat = next((name for name in models if name not in NOT_FOR_CHAT), "jan-demo")
    print(BANNER.format(version=__version__, base=base, models=", ".join(models), model=chat), flush=True)  # noqa: T201


def _models(base: str) -> list[str]:
    """What `GET /v1/models` lists, asked the way a client would."""
    token = _ask(urllib.request.Request(f"{base}/auth/guest-login", method="POST"))["access_token"]  # noqa: S310
    request = urllib.request.Request(f"{base}/v1/models", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    return [row["id"] for row in _ask(request)["data"]]


def _ask(request: urllib.request.Request) -> Any:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=5) as answer:
        return json.load(answer)
