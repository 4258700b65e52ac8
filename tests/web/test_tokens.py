"""Who may read: a token that proves it, and a refusal in the right words for everything else."""

import json
import time

import pytest

from simnet import OMIT, key_from_seed
from tests.web.conftest import GET_SKELETON, ON_SQLITE, refused, target

pytestmark = ON_SQLITE

SEND = "/xrpc/app.bsky.feed.sendInteractions"
SEND_METHOD = "app.bsky.feed.sendInteractions"
NOW = int(time.time())


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_sound_token_of_either_curve_is_taken(site, curve):
    someone = site.net.create_account(f"curve-{curve}", curve=curve)
    assert site.get(target(site), Authorization=site.token(someone)).status == 200


def test_the_audience_may_name_the_service_within_the_did(site):
    token = site.token(aud=f"{site.service.did}#bsky_fg")
    assert site.get(target(site), Authorization=token).status == 200


@pytest.mark.attack("tokens")
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer ..",
        "Basic dXNlcjpwYXNz",
        "DPoP {token}",
        "{token}",
        "Bearer {token} x",
        "Bearer {token}.x",
        "Bearer {two}",
        "Bearer {token}.",
        "Bearer .{token}",
        "Bearer  {token}",
        "Bearer\t{token}",
        "Bearer {token}\xe9",
        "Bearer {token}%3D",
        "Bearer {token}, Bearer {token}",
        "Bearer {token}=",
        "Bearer " + "x" * 5000,
        "Bearer " + "A" * 1200 + "." + "A" * 1200 + "." + "A" * 86,
    ],
)
def test_what_is_no_token_is_refused(site, header):
    token = site.token().removeprefix("Bearer ")
    text = (header or "").replace("{token}", token).replace("{two}", token.rpartition(".")[0])
    headers = {} if header is None else {"Authorization": text}
    name = refused(site.ask("GET", target(site), headers))
    if header in (None, ""):
        assert name == "AuthenticationRequired"


@pytest.mark.attack("tokens")
@pytest.mark.parametrize(
    ("forged", "name"),
    [
        ({"aud": "did:web:feeds.example.com"}, "BadJwtAudience"),
        ({"aud": "{did}.evil.example"}, "BadJwtAudience"),
        ({"aud": "{did}#atproto_labeler"}, "BadJwtAudience"),
        ({"aud": "{did}/"}, "BadJwtAudience"),
        ({"aud": "{did} "}, "BadJwtAudience"),
        ({"aud": "{did}#"}, "BadJwtAudience"),
        ({"aud": "{did}#bsky_fg#bsky_fg"}, "BadJwtAudience"),
        ({"aud": "{did}?service=bsky_fg"}, "BadJwtAudience"),
        ({"aud": ""}, "BadJwtAudience"),
        ({"payload": {"aud": ["{did}"]}}, "BadJwt"),
        ({"payload": {"aud": {"{did}": 1}}}, "BadJwt"),
        ({"payload": {"aud": None}}, "BadJwt"),
        ({"payload": {"aud": OMIT}}, "BadJwt"),
        ({"lxm": "app.bsky.feed.getFeed"}, "BadJwtLexiconMethod"),
        ({"lxm": SEND_METHOD}, "BadJwtLexiconMethod"),
        ({"payload": {"lxm": OMIT}}, "BadJwtLexiconMethod"),
        ({"payload": {"exp": NOW - 120}}, "JwtExpired"),
        ({"payload": {"exp": OMIT}}, "BadJwt"),
        ({"payload": {"exp": NOW + 86_400}}, "BadJwt"),
        ({"payload": {"lxm": ["{method}"]}}, "BadJwt"),
        ({"lxm": "{method}.x"}, "BadJwtLexiconMethod"),
        ({"lxm": "*"}, "BadJwtLexiconMethod"),
        ({"payload": {"exp": True}}, "BadJwt"),
        ({"payload": {"exp": None}}, "BadJwt"),
        ({"payload": {"exp": str(NOW + 60)}}, "BadJwt"),
        ({"payload": {"exp": NOW + 60.5}}, "BadJwt"),
        ({"payload": {"exp": -1}}, "BadJwt"),
        ({"payload": {"exp": 10**400}}, "BadJwt"),
        ({"payload": {"exp": float("inf")}}, "BadJwt"),
        ({"payload": {"nbf": NOW + 86_400}}, "BadJwt"),
        ({"payload": {"iat": True}}, "BadJwt"),
        ({"payload": {"jti": 5}}, "BadJwt"),
        ({"payload": {"jti": "x" * 600}}, "BadJwt"),
        ({"payload": {"x": [[[[]]]] * 9, "iss": ["{iss}"]}}, "BadJwt"),
        ({"payload": {"iat": NOW + 86_400}}, "BadJwt"),
        ({"payload": {"iss": OMIT}}, "BadJwt"),
        ({"payload": {"iss": "viewer.test"}}, "BadJwtIssuer"),
        (
            {"payload": {"iss": "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}},
            "BadJwtIssuer",
        ),
        ({"payload": {"iss": "{iss}#atproto"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "{iss}#bsky_fg"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "{iss}/"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "{iss}?x"}}, "BadJwtIssuer"),
        ({"payload": {"iss": " {iss}"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "{iss}\n"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "{ISS}"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:plc:../../export"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:plc:" + "a" * 23}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:plc:" + "1" * 24}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:10.0.0.1"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:169.254.169.254"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:2130706433"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:[::1]"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:localhost%3A8000"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:a.example.com%3A22"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:a.example.com:users:eve"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:a.example.com/users"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:eve@10.0.0.1"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:169.254.169.254/x?"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:127.0.0.1"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:web:localhost"}}, "BadJwtIssuer"),
        ({"payload": {"iss": "did:plc:" + "a" * 24}}, "BadJwtIssuer"),
        ({"header": {"alg": "none"}}, "BadJwt"),
        ({"header": {"alg": "HS256"}}, "BadJwt"),
        ({"header": {"alg": OMIT}}, "BadJwt"),
        ({"header": {"alg": "RS256"}}, "BadJwt"),
        ({"header": {"alg": ["ES256K"]}}, "BadJwt"),
        ({"header": {"crit": ["exp"]}}, "BadJwt"),
        ({"header": {"alg": "ES256"}}, "BadJwtSignature"),
        ({"header": {"typ": "refresh+jwt"}}, "BadJwtType"),
        ({"header": {"typ": None}}, "BadJwtType"),
        ({"header": {"kid": None}}, "BadJwt"),
        ({"header": {"kid": "#atproto_labeler"}}, "BadJwt"),
        ({"header": {"typ": "at+jwt"}}, "BadJwtType"),
        ({"header": {"typ": "dpop+jwt"}}, "BadJwtType"),
        ({"header": {"kid": "#other"}}, "BadJwt"),
        ({"key": key_from_seed("somebody else's")}, "BadJwtSignature"),
    ],
)
def test_forged_tokens_are_refused_by_name(site, forged, name):
    def filled(value):
        if isinstance(value, str):
            iss = site.viewer.did
            value = value.replace("{iss}", iss).replace("{ISS}", iss.upper())
            return value.replace("{did}", site.service.did).replace("{method}", GET_SKELETON)
        if isinstance(value, list):
            return [filled(entry) for entry in value]
        if isinstance(value, dict):
            return {key: filled(entry) for key, entry in value.items()}
        return value

    answer = site.get(target(site), Authorization=site.token(**filled(forged)))
    assert refused(answer) == name


@pytest.mark.attack("tokens")
def test_the_token_of_one_proves_nothing_for_another(site):
    mallory = site.net.create_account("mallory")
    token = site.token(mallory, payload={"iss": site.viewer.did})
    assert refused(site.get(target(site), Authorization=token)) == "BadJwtSignature"


@pytest.mark.attack("tokens")
def test_two_authorization_headers_are_refused(site):
    request = (
        f"GET {target(site)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: {site.token()}\r\nAuthorization: {site.token()}\r\n\r\n"
    )
    answer = site.raw(request.encode())
    assert b" 401 " in answer.split(b"\r\n")[0]
    assert b"WWW-Authenticate: Bearer" in answer


def test_a_directory_that_is_down_is_never_a_401(site):
    someone = site.net.create_account("unheard-of")
    site.net.faults.arm("http-500", times=None, where={"host": "plc"})
    try:
        before = site.net.faults.fired["http-500"]
        answer = site.get(target(site), Authorization=site.token(someone))
        assert answer.error() == (503, "IdentityUnavailable")
        assert answer.headers["retry-after"].isdigit()
        assert site.net.faults.fired["http-500"] > before
        # Whom we know already, we go on knowing.
        assert site.get(target(site), Authorization=site.token()).status == 200
    finally:
        site.net.faults.disarm("http-500")


def test_a_directory_that_hangs_is_a_503_before_the_appview_gives_up(site):
    someone = site.net.create_account("unheard-of-too")
    site.net.faults.arm("http-hang", times=None, where={"host": "plc"}, delay_s=6)
    try:
        began = time.monotonic()
        answer = site.get(target(site), Authorization=site.token(someone))
        assert answer.error() == (503, "IdentityUnavailable")
        assert time.monotonic() - began < 5
        assert site.net.faults.fired["http-hang"] > 0
    finally:
        site.net.faults.disarm("http-hang")


def send(site, body, token=None, **headers):
    fields = {
        "Content-Type": "application/json",
        "Authorization": token or site.token(lxm=SEND_METHOD),
    }
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.ask("POST", SEND, {**fields, **headers}, raw)


def test_interactions_are_taken_from_whoever_proves_who_they_are(site):
    interaction = {
        "item": "at://did:plc:x/app.bsky.feed.post/y",
        "event": "app.bsky.feed.defs#interactionSeen",
    }
    answer = send(site, {"interactions": [interaction, {"event": "something new"}]})
    assert (answer.status, answer.json()) == (200, {})
    assert send(site, {"interactions": [], "feed": site.reader.uri()}).status == 200
    assert send(site, {"interactions": [interaction] * 500}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"interactions": 5}',
        b'{"interactions": {}}',
        b'{"interactions": null}',
        b"\xff\xfe",
        b"[" * 20_000,
        b'{"interactions": [' + b",".join([b"{}"] * 501) + b"]}",
    ],
)
def test_other_bodies_are_refused(site, body):
    assert send(site, body).error() == (400, "InvalidRequest")


def test_interactions_need_a_token_of_their_own(site):
    body = {"interactions": []}
    assert (
        refused(site.ask("POST", SEND, {}, json.dumps(body).encode())) == "AuthenticationRequired"
    )
    token = site.token(lxm=GET_SKELETON)
    assert refused(send(site, body, token)) == "BadJwtLexiconMethod"


def test_a_body_that_is_too_large_is_refused_in_json(site):
    assert send(site, b'{"interactions": [' + b" " * 300_000 + b"]}").error()[0] == 413
