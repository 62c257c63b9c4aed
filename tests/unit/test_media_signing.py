"""What the server signs opens what it was signed for, in its time, and nothing else."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest

from services.media.signing import FIELDS, Permit, Signer
from services.runtime.errors import ApiError, InvalidRequest, Unauthenticated
from services.runtime.vault import Vault

NOW = 1_795_000_000
EXPIRES = NOW + 300
ID, OTHER = "jan_01kb0000000000000000000001", "jan_01kb0000000000000000000002"
SIGNER = Signer(Vault(b"0123456789abcdef0123456789abcdef"))


def signed(query: str) -> dict[str, str]:
    """The two parameters of a query."""
    found = {name: values[0] for name, values in parse_qs(query).items()}
    assert sorted(found) == ["exp", "sig"]
    return found


def form(key: str = f"images/{ID}", largest: int = 1000) -> dict[str, str]:
    return SIGNER.form(key, largest=largest, expires=EXPIRES, now=NOW)


def refusal(check: Callable[[], object]) -> tuple[int, str, str | None]:
    """Status, code and parameter of the error."""
    with pytest.raises(ApiError) as caught:
        check()
    return caught.value.kind.http, caught.value.code, caught.value.param


WRONG = (401, "invalid_signature", None)


def test_a_signed_query_is_good_until_it_expires() -> None:
    query = signed(SIGNER.content_query(ID, expires=EXPIRES))
    SIGNER.check_content(ID, **query, now=NOW)
    SIGNER.check_content(ID, **query, now=EXPIRES - 0.001)
    assert refusal(lambda: SIGNER.check_content(ID, **query, now=EXPIRES)) == WRONG


def test_a_signature_to_see_an_image_is_none_to_send_one_and_the_other_way_round() -> None:
    see, send = (signed(make(ID, expires=EXPIRES)) for make in (SIGNER.content_query, SIGNER.upload_query))
    SIGNER.check_upload(ID, **send, now=NOW)
    assert refusal(lambda: SIGNER.check_upload(ID, **see, now=NOW)) == WRONG
    assert refusal(lambda: SIGNER.check_content(ID, **send, now=NOW)) == WRONG


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": str(EXPIRES + 1)},
        {"exp": f"0{EXPIRES}"},
        {"exp": f" {EXPIRES}"},
        {"exp": "9" * 5000},
        {"exp": "-1"},
        {"exp": "²"},
        {"exp": ""},
        {"sig": ""},
        {"sig": "0" * 64},
        {"sig": "é" * 64},
        {"sig": "\udcff"},
        {"sig": "\0"},
    ],
    ids=repr,
)
def test_a_changed_query_is_refused(changed: dict[str, str]) -> None:
    query = signed(SIGNER.content_query(ID, expires=EXPIRES)) | changed
    assert refusal(lambda: SIGNER.check_content(ID, **query, now=NOW)) == WRONG


def test_every_character_of_a_signature_counts() -> None:
    query = signed(SIGNER.content_query(ID, expires=EXPIRES))
    for at, letter in enumerate(query["sig"]):
        changed = query["sig"][:at] + ("0" if letter != "0" else "1") + query["sig"][at + 1 :]
        assert refusal(lambda sig=changed: SIGNER.check_content(ID, exp=query["exp"], sig=sig, now=NOW)) == WRONG


def test_a_signature_is_for_one_image_and_one_installation() -> None:
    query = signed(SIGNER.content_query(ID, expires=EXPIRES))
    assert refusal(lambda: SIGNER.check_content(OTHER, **query, now=NOW)) == WRONG
    another = Signer(Vault(b"another installation's secret 12"))
    assert refusal(lambda: another.check_content(ID, **query, now=NOW)) == WRONG


def test_processes_of_an_installation_believe_each_other() -> None:
    another = Signer(Vault(b"0123456789abcdef0123456789abcdef"))
    another.check_content(ID, **signed(SIGNER.content_query(ID, expires=EXPIRES)), now=NOW)
    assert another.check_form(form(), now=NOW) == Permit(f"images/{ID}", 1000)


def test_a_form_has_exactly_the_fields_of_s3() -> None:
    assert sorted(form()) == sorted(FIELDS)
    assert form()["key"] == f"images/{ID}"
    assert form()["x-amz-algorithm"] == "AWS4-HMAC-SHA256"


def test_the_policy_of_a_form_names_key_size_and_time() -> None:
    policy = json.loads(base64.b64decode(form()["policy"]))
    assert policy["expiration"] == "2026-11-18T11:11:40Z"
    assert {"key": f"images/{ID}"} in policy["conditions"]
    assert ["content-length-range", 1, 1000] in policy["conditions"]


def test_a_form_is_signed_as_s3_signs_it() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html, with the key that is ours."""
    fields, key = form(), f"AWS4{Vault(b'0123456789abcdef0123456789abcdef').key('media upload form').hex()}".encode()
    _, *scope = fields["x-amz-credential"].split("/")
    for word in (*scope, fields["policy"]):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    assert fields["x-amz-signature"] == key.hex()


def test_a_form_allows_what_it_says_until_it_expires() -> None:
    assert SIGNER.check_form(form(largest=7), now=EXPIRES - 1) == Permit(f"images/{ID}", 7)
    assert refusal(lambda: SIGNER.check_form(form(), now=EXPIRES)) == WRONG


@pytest.mark.parametrize("name", FIELDS)
def test_a_form_without_one_of_its_fields_is_no_form(name: str) -> None:
    fields = {each: value for each, value in form().items() if each != name}
    assert refusal(lambda: SIGNER.check_form(fields, now=NOW)) == (400, "invalid_parameter", name)


@pytest.mark.parametrize("value", ["", "x", "\udcff", "é", f"images/{OTHER}", "20260101T000000Z", "e30="])
@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_was_changed_is_refused(name: str, value: str) -> None:
    assert refusal(lambda: SIGNER.check_form(form() | {name: value}, now=NOW)) == WRONG


def test_a_form_may_have_no_other_fields_but_those_to_be_ignored() -> None:
    with pytest.raises(InvalidRequest, match="acl"):
        SIGNER.check_form(form() | {"acl": "public-read"}, now=NOW)
    assert SIGNER.check_form(form() | {"x-ignore-note": "hello"}, now=NOW).largest == 1000


def test_a_larger_size_cannot_be_put_into_a_policy() -> None:
    fields = form()
    policy = base64.b64decode(fields["policy"]).replace(b"1000", b"9999")
    with pytest.raises(Unauthenticated):
        SIGNER.check_form(fields | {"policy": base64.b64encode(policy).decode()}, now=NOW)


def test_a_signature_of_a_url_is_none_of_a_form() -> None:
    for query in (SIGNER.content_query(ID, expires=EXPIRES), SIGNER.upload_query(ID, expires=EXPIRES)):
        fields = form() | {"x-amz-signature": signed(query)["sig"]}
        assert refusal(lambda fields=fields: SIGNER.check_form(fields, now=NOW)) == WRONG
