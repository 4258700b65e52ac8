"""An account as somebody types it: a handle is verified both ways, whatever our tables say."""

import pytest

from server import outgoing
from server.commands import accounts
from server.commands.accounts import find_did
from server.core.config import load_config
from server.core.errors import ConfigError
from server.identity.txt_records import system_resolvers
from server.storage.authors import save_identity
from tests.builders import NOW_US, did, track


@pytest.fixture
def find(db, names, monkeypatch):
    """Finds a DID by what the test's DNS and directory say, within a second."""
    monkeypatch.setattr(outgoing, "system_resolvers", names.dns_server.resolvers)
    monkeypatch.setattr(accounts, "LOOKUP_SECONDS", 1.0)
    settings = {"PLC_URL": names.plc.url, "ALLOW_PRIVATE_HOSTS": "1", "DATABASE_URL": db}
    return lambda text: find_did(load_config(settings), text)


def refusal(find, text):
    with pytest.raises(ConfigError) as caught:
        find(text)
    return str(caught.value)


def test_a_handle_that_dns_proves_is_found_with_or_without_its_at_sign(find, names):
    names.own("ann", "ann.test")
    for text in ("ann.test", "@Ann.TEST", did("ann")):
        assert find(text) == did("ann")
    assert "neither a DID nor a handle" in refusal(find, "ann")


def test_what_our_tables_hold_is_a_claim_and_no_answer(find, names):
    track("ann", "bob")
    save_identity(did("ann"), "ann.test", None, None, NOW_US)
    names.claim("ann", "ann.test")
    names.dns_server.say("_atproto.ann.test", "TXT")
    text = refusal(find, "ann.test")
    assert "give the DID" in text
    assert f"{did('ann')} claimed it, which proves nothing" in text
    # Somebody else has the name now.
    names.own("bob", "ann.test")
    assert find("ann.test") == did("bob")


def test_a_handle_that_the_account_does_not_claim_is_nobodys(find, names):
    names.own("ann", "ann.test")
    names.claim("ann", "other.test")
    text = refusal(find, "ann.test")
    assert f"ann.test is nobody's ({did('ann')} does not call itself ann.test)" in text


def test_of_many_who_claim_a_handle_a_few_are_named(find, names):
    everybody = [f"eve{number}" for number in range(10)]
    track(*everybody)
    for name in everybody:
        save_identity(did(name), "ann.local", None, None, NOW_US)
    text = refusal(find, "ann.local")
    assert "reserved" in text
    assert sum(did(name) in text for name in everybody) == accounts.CLAIMANTS


def test_a_network_that_cannot_be_reached_is_said_to_be_and_the_did_asked_for(
    find, names, monkeypatch, tmp_path
):
    names.own("ann", "ann.test")
    monkeypatch.setattr(
        outgoing, "system_resolvers", lambda: system_resolvers(tmp_path / "resolv.conf")
    )
    text = refusal(find, "ann.test")
    assert "the handle ann.test cannot be verified now" in text
    assert "resolv.conf cannot be read" in text
    assert "give the DID" in text
    assert find(did("ann")) == did("ann")
