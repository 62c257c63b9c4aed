"""What an administrator asks a provider to be.

An address may be on a private network or on this machine, because that is where engines live; only administrators, who
could as well write it into the configuration, can name one. The server sends it requests of models and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from jan.llm.v1 import admin_providers_pb2

from services.llm.models.model_changes import plain
from services.llm.models.provider_store import Wanted
from services.llm.providers.entries import BASE_URLS, Address, is_address
from services.llm.providers.provider import Json
from services.runtime.errors import InvalidRequest

USUAL_VENDOR = "custom"
LARGEST_METADATA = 64 * 1024
"""Bytes, about as many as its JSON has; every process keeps it in memory."""


def new_provider(request: admin_providers_pb2.CreateProviderRequest) -> Wanted:
    """The provider that is to be made. Raises `InvalidRequest` naming the first wrong member."""
    vendor = _vendor(request.vendor or USUAL_VENDOR)
    addresses = _addresses(request.base_url, request.endpoints)
    if not addresses and BASE_URLS[vendor]:
        addresses = [Address(BASE_URLS[vendor])]
    if not addresses:
        raise InvalidRequest(f"A provider of the kind '{vendor}' needs a 'base_url'", param="base_url")
    return Wanted(
        name=_name(request.name),
        vendor=vendor,
        addresses=addresses,
        api_key=request.api_key,
        active=request.active if request.HasField("active") else True,
        metadata=_metadata(request.metadata),
    )


def provider_changes(request: admin_providers_pb2.UpdateProviderRequest) -> Wanted:
    """What is to change of a provider. Raises `InvalidRequest` naming the first wrong member."""
    addresses = _addresses(request.base_url, request.endpoints)
    if request.HasField("base_url") and not addresses:
        raise InvalidRequest("Parameter 'base_url' must not be empty", param="base_url")
    return Wanted(
        name=_name(request.name) if request.HasField("name") else None,
        vendor=_vendor(request.vendor) if request.HasField("vendor") else None,
        addresses=addresses or None,
        api_key=request.api_key if request.HasField("api_key") else None,
        active=request.active if request.HasField("active") else None,
        metadata=_metadata(request.metadata) if request.HasField("metadata") else None,
    )


def _name(given: str) -> str:
    if name := given.strip():
        return name
    raise InvalidRequest("Parameter 'name' must not be empty", param="name")


def _metadata(given: Message) -> Json:
    if given.ByteSize() > LARGEST_METADATA:
        raise InvalidRequest(f"Parameter 'metadata' may have {LARGEST_METADATA} bytes", param="metadata")
    return dict(plain("metadata", given))


def _vendor(given: str) -> str:
    if given not in BASE_URLS:
        raise InvalidRequest(f"Parameter 'vendor' must be one of {', '.join(sorted(BASE_URLS))}", param="vendor")
    return given


def _addresses(base_url: str, endpoints: Iterable[Any]) -> list[Address]:
    """The places that a request names. Raises `InvalidRequest`."""
    given = [
        (f"endpoints[{index}].url", Address(each.url, each.weight or 1, each.priority))
        for index, each in enumerate(endpoints)
    ]
    if base_url and given:
        raise InvalidRequest("Parameters 'base_url' and 'endpoints' exclude each other", param="base_url")
    given = given or ([("base_url", Address(base_url))] if base_url else [])
    for name, address in given:
        if not is_address(address.url):
            raise InvalidRequest(
                f"Parameter '{name}' must be an address such as https://host/v1, without password and query", param=name
            )
    return [address for _, address in given]
