"""What the server signs by itself when the store is a directory: URLs that show an image, URLs that take an upload, and
forms as S3 takes them. Each has a key of its own, so that none can be used for another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson

from services.runtime.errors import InvalidRequest, Unauthenticated
from services.runtime.vault import Vault

FIELDS = ("key", "policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
"""The fields of a form, all of them."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_SCOPE = ("local", "s3", "aws4_request")
_DATE = "%Y%m%dT%H%M%SZ"
_EXPIRATION = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Permit:
    """What the signature of a form allows."""

    key: str
    largest: int
    """Bytes."""


class Signer:
    """Makes signatures and checks them. Times are Unix seconds, `now` too; every check raises `Unauthenticated`
    (`invalid_signature`) for a signature that is wrong or whose time is over."""

    def __init__(self, vault: Vault) -> None:
        self._content = vault.key("media content url")
        self._upload = vault.key("media upload url")
        self._form = vault.key("media upload form").hex()

    def content_query(self, media_id: str, *, expires: int) -> str:
        """The query of a URL that shows an image."""
        return _query(self._content, media_id, expires)

    def check_content(self, media_id: str, *, exp: str, sig: str, now: float) -> None:
        """Whether such a query is ours and still good."""
        _check(self._content, media_id, exp=exp, sig=sig, now=now)

    def upload_query(self, media_id: str, *, expires: int) -> str:
        """The query of a URL that takes the bytes of an upload."""
        return _query(self._upload, media_id, expires)

    def check_upload(self, media_id: str, *, exp: str, sig: str, now: float) -> None:
        """Whether such a query is ours and still good."""
        _check(self._upload, media_id, exp=exp, sig=sig, now=now)

    def form(self, key: str, *, largest: int, expires: int, now: float) -> dict[str, str]:
        """The fields of a form that makes the object `key`, of 1 to `largest` bytes.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html
        """
        date = datetime.fromtimestamp(now, UTC).strftime(_DATE)
        said = {
            "key": key,
            "x-amz-algorithm": _ALGORITHM,
            "x-amz-credential": "/".join(("jan", date[:8], *_SCOPE)),
            "x-amz-date": date,
        }
        expiration = datetime.fromtimestamp(expires, UTC).strftime(_EXPIRATION)
        conditions = [*({name: value} for name, value in said.items()), ["content-length-range", 1, largest]]
        policy = base64.b64encode(orjson.dumps({"expiration": expiration, "conditions": conditions})).decode()
        return said | {"policy": policy, "x-amz-signature": self._form_signature(policy, date[:8])}

    def check_form(self, fields: Mapping[str, str], *, now: float) -> Permit:
        """What the fields of a form allow. Raises `InvalidRequest` when they are not those that we gave out."""
        _check_names(fields)
        policy = fields["policy"]
        signature = self._form_signature(policy, fields["x-amz-date"][:8])
        if not _same(signature, fields["x-amz-signature"]):
            raise _refused("The signature of the form is wrong")
        said = orjson.loads(base64.b64decode(policy))  # ours: the signature says so
        if datetime.strptime(said["expiration"], _EXPIRATION).replace(tzinfo=UTC).timestamp() <= now:
            raise _refused("The form has expired")
        *fixed, (_, _, largest) = said["conditions"]
        if any(fields[name] != value for each in fixed for name, value in each.items()):
            raise _refused("The form is not signed for these fields")
        return Permit(fields["key"], largest)

    def _form_signature(self, policy: str, day: str) -> str:
        key = f"AWS4{self._form}".encode()
        for word in (day, *_SCOPE):
            key = hmac.digest(key, _bytes(word), hashlib.sha256)
        return hmac.digest(key, _bytes(policy), hashlib.sha256).hex()


def _query(key: bytes, media_id: str, expires: int) -> str:
    return urlencode({"exp": expires, "sig": _signature(key, media_id, str(expires))})


def _check(key: bytes, media_id: str, *, exp: str, sig: str, now: float) -> None:
    if not re.fullmatch(r"[0-9]{1,12}", exp) or not _same(_signature(key, media_id, exp), sig):
        raise _refused("The signature of the URL is wrong")
    if int(exp) <= now:
        raise _refused("The URL has expired")


def _signature(key: bytes, media_id: str, expires: str) -> str:
    return hmac.digest(key, f"{media_id}\n{expires}".encode(), hashlib.sha256).hex()


def _same(right: str, given: str) -> bool:
    """In a time that tells nothing about how much of it is right."""
    return hmac.compare_digest(_bytes(right), _bytes(given))


def _bytes(text: str) -> bytes:
    """Clients may send what is no text."""
    return text.encode(errors="surrogatepass")


def _check_names(fields: Mapping[str, str]) -> None:
    for name in FIELDS:
        if name not in fields:
            raise InvalidRequest(f"The form has no field '{name}' before its file", param=name)
    for name in fields:
        if name not in FIELDS and not name.startswith("x-ignore-"):
            raise InvalidRequest(f"The form has a field '{name}', which its policy does not allow", param=name)


def _refused(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="invalid_signature")
