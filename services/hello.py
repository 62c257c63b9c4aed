"""`jan-server hello`: ask the running server what it offers, and say how to use it. `jan-server up` ends with it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services import __version__
from services.llm.providers.names import is_for_chat
from services.runtime.config import Settings

EVERYWHERE = ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104  # compared, not bound
FALLBACK = "jan-demo"
LISTED = 12

BANNER = """
Jan Server {version} is up: {base}   (Ctrl-C stops it)
Models: {models}

{shell_token}
  curl {base}/v1/chat/completions -H "Authorization: Bearer $TOKEN" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  # pip install openai
{python_token}
  client = openai.OpenAI(base_url="{base}/v1", api_key=token)
  chunks = client.chat.completions.create(
      model="{model}", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
  )
  for chunk in chunks:
      print(chunk.choices[0].delta.content or "", end="")
"""
# Where a token comes from, in the shell and in Python: from a guest account of one's own, or else from elsewhere.
GUEST = (
    """  TOKEN=$(curl -s -X POST {base}/auth/guest-login | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')""",
    """  import httpx, openai
  token = httpx.post("{base}/auth/guest-login").json()["access_token"]""",
)
GIVEN = (
    """  # AUTH_GUEST_ENABLED is off: TOKEN is a JWT signed by a key of {base}/.well-known/jwks.json
  # (AUTH_SIGNING_KEY_FILE makes that one of yours) with its kid,
  # and iss {issuer}, aud {audience}, sub, iat, exp
  TOKEN=...""",
    """  import openai
  token = "..."  # the same""",
)


@dataclass(frozen=True)
class Offer:
    """What the server says: its models, or a complaint in their place, and whether anybody may have an account."""

    models: Sequence[str] = ()
    complaint: str = ""
    guests: bool = True


def hello(settings: Settings) -> None:
    """Print the banner, with snippets that work as pasted."""
    print(banner(settings, _offer(_base(settings))), flush=True)  # noqa: T201


def banner(settings: Settings, offer: Offer) -> str:
    """The text for what the server offers."""
    base = _base(settings)
    shell, python = (
        token.format(base=base, issuer=settings.issuer, audience=settings.auth_audience)
        for token in (GUEST if offer.guests else GIVEN)
    )
    return BANNER.format(
        version=__version__,
        base=base,
        models=offer.complaint or _some(offer.models),
        model=next(filter(is_for_chat, offer.models), FALLBACK),
        shell_token=shell,
        python_token=python,
    )


def _base(settings: Settings) -> str:
    """Where this machine reaches the gateway; PUBLIC_BASE_URL may be a name that only others know."""
    host = "localhost" if settings.bind_address in EVERYWHERE else settings.bind_address
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.gateway_port}"


def _some(models: Sequence[str]) -> str:
    more = f" and {len(models) - LISTED} more" if len(models) > LISTED else ""
    return ", ".join(models[:LISTED]) + more if models else "none yet"


def _offer(base: str) -> Offer:
    """What `GET /v1/models` lists, asked the way a client would."""
    try:
        token = _ask(urllib.request.Request(f"{base}/auth/guest-login", method="POST"))["access_token"]  # noqa: S310
        request = urllib.request.Request(f"{base}/v1/models", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        return Offer([str(row["id"]) for row in _ask(request)["data"]])
    except urllib.error.HTTPError as error:
        if error.code == http.client.FORBIDDEN:
            return Offer(complaint=f"{base}/v1/models lists them for a token", guests=False)
        return Offer(complaint=f"not known ({error})")
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        # It may serve others all the same: say so instead of failing.
        return Offer(complaint=f"not known ({error})")


def _ask(request: urllib.request.Request) -> Any:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=5) as answer:
        return json.load(answer)
