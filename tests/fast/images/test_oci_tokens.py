"""Tokens: what a registry asks for, and a token server that is busy or broken."""

import base64

import pytest
import requests

from gpuserve_images.errors import RegistryError
from gpuserve_images.oci import authorisation, retries
from gpuserve_images.oci.authorisation import Authorisation, Scope
from gpuserve_images.oci.challenges import challenges
from gpuserve_images.oci.credentials import Credentials

BEARER = 'Bearer realm="https://tokens.example/get",service="r",scope="repository:m:pull,push"'
KNOWN = Credentials("me", "secret")


def response(status, body=b"{}", **headers):
    answer = requests.Response()
    answer.status_code, answer._content = status, body
    answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return answer


class Session:
    """Gives what it was given, one after the other, then a token."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def get(self, url, **options):
        self.asked.append((url, options["params"]))
        answer = self.answers.pop(0) if self.answers else response(200, b'{"token": "t"}')
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(retries.time, "sleep", found.append)
    return found


@pytest.fixture
def header(monkeypatch):
    """Return the header that follows from a challenge, or None."""

    def get(session, challenge=BEARER, known=KNOWN):
        monkeypatch.setattr(authorisation, "credentials_for", lambda *_: known)
        ours, scope = Authorisation("r.example", session), Scope("m", writes=True)
        renewed = ours.renew(scope, response(401, WWW_Authenticate=challenge), {})
        return ours.header(scope)["Authorization"] if renewed else None

    return get


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_token_server_is_asked_again_when_it_says(header, waits, status):
    session = Session(response(status, Retry_After="7"), requests.ConnectionError())
    assert header(session) == "Bearer t"
    assert (len(session.asked), waits) == (3, [7.0, 1.0])


@pytest.mark.parametrize(("status", "fix"), [(429, "Wait a minute"), (503, "See that the token server runs")])
def test_one_that_stays_busy_is_named_with_its_status(header, waits, status, fix):
    with pytest.raises(RegistryError, match=rf"its token server https://tokens.example/get answers HTTP {status}") as caught:
        header(Session(*[response(status)] * 9))
    assert (caught.value.status, caught.value.fix.startswith(fix), len(waits)) == (status, True, 3)


@pytest.mark.parametrize("broken", [requests.ConnectionError("secret-thing"), response(200, b"<html>")])
def test_one_that_cannot_be_used_is_named_and_not_quoted(header, waits, broken):
    with pytest.raises(RegistryError, match="gives no usable answer") as caught:
        header(Session(*[broken] * 9))
    assert "secret-thing" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("token", [r'"secret\nthing"', r'"secret-\u20ac"', '["secret"]', "5", '"secret "'])
def test_a_token_that_no_header_can_hold_is_said_and_not_quoted(header, waits, token):
    answers = [response(200, f'{{"token": {token}}}'.encode())] * 9
    with pytest.raises(RegistryError, match="gives a token that no header can hold") as caught:
        header(Session(*answers))
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert waits == []


@pytest.mark.parametrize("written", ["user:hidden@", "hidden@", "user:hid/den@", "user:hid#den?hidden@"])
@pytest.mark.parametrize(
    ("broken", "what"), [(response(503), "answers HTTP 503"), (response(200, b"<html>"), "gives no usable")]
)
def test_a_password_in_its_address_is_not_shown(header, waits, written, broken, what):
    challenge = BEARER.replace("https://tokens.example/get", f"https://{written}tokens.example/get?account=hidden#hidden")
    with pytest.raises(RegistryError, match=rf"its token server https://tokens.example/get {what}") as caught:
        header(Session(*[broken] * 9), challenge)
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("answer", [response(401), response(403), response(200, b"[]")])
def test_no_token_means_what_the_registry_says_about_credentials(header, waits, answer):
    assert header(Session(answer)) is None
    assert waits == []


@pytest.mark.parametrize(
    "challenge",
    [
        f'{BEARER}, Basic realm="Registry"',
        f'Basic realm="Registry", {BEARER}',
        BEARER.replace('"r"', "r"),
        f"Negotiate, {BEARER}",
    ],
)
def test_of_several_challenges_each_keeps_its_own_parameters(header, waits, challenge):
    session = Session()
    assert header(session, challenge) == "Bearer t"
    assert session.asked == [("https://tokens.example/get", [("service", "r"), ("scope", "repository:m:pull,push")])]


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("", ["repository:m:pull,push"]),
        ("repository:m:pull", ["repository:m:pull", "repository:m:pull,push"]),
        ("repository:m:push,pull repository:base:pull", ["repository:m:push,pull", "repository:base:pull"]),
        ("repository:m:*", ["repository:m:*"]),
        ("repository:where-it-lies/m:pull", ["repository:where-it-lies/m:pull"]),
    ],
)
def test_what_is_needed_is_asked_for_where_a_challenge_names_less(header, waits, named, asked):
    session = Session()
    assert header(session, BEARER.replace("repository:m:pull,push", named)) == "Bearer t"
    assert [value for name, value in session.asked[0][1] if name == "scope"] == asked


def test_reading_asks_for_no_right_to_write():
    assert Scope("m", writes=False).among([]) == ["repository:m:pull"]


def test_without_a_token_the_password_is_sent_where_the_registry_takes_it(header, waits):
    both = f'{BEARER}, Basic realm="Registry"'
    assert header(Session(response(401)), both) == "Basic " + base64.b64encode(b"me:secret").decode()
    assert header(Session(response(401)), both, None) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("Basic", {"basic": {}}),
        ('BASIC realm = "a, b=c \\" d"', {"basic": {"realm": 'a, b=c " d'}}),
        ("Negotiate, Bearer a=b,c=d", {"negotiate": {}, "bearer": {"a": "b", "c": "d"}}),
    ],
)
def test_challenges(text, found):
    assert challenges(text) == found
