"""What the word of a directory is worth: who is gone, who is only not there."""

import pytest

from server.backfill.locate import NOT_LISTED, look_up_home, look_up_pds
from server.core.errors import FetchFailed, NotFound
from server.identity.did import Identity
from server.storage import viewers
from server.storage.authors import author_ids, load_identity
from server.storage.forget import forget
from tests.builders import NOW_US, did

PLC, WEB = did("alice"), "did:web:alice.example.com"

# Whoever asks a directory gives their connection back first.
pytestmark = pytest.mark.usefixtures("db")


class Refusing:
    """A directory that answers so."""

    def __init__(self, error):
        self.error = error

    def resolve(self, _did, _deadline_s):
        raise self.error


@pytest.mark.parametrize(
    ("who", "is_for_good", "name"),
    [
        (PLC, False, NOT_LISTED),
        (PLC, True, "RepoNotFound"),
        # Whoever has the website may say otherwise tomorrow, whatever its status says today.
        (WEB, False, NOT_LISTED),
        (WEB, True, NOT_LISTED),
    ],
)
def test_only_a_tombstone_of_the_directory_is_for_good(who, is_for_good, name):
    # Nor is it heard what a website calls its answer.
    said = NotFound("gone", "RepoNotFound", is_for_good=is_for_good)
    with pytest.raises(NotFound) as caught:
        look_up_home(Refusing(said), who)
    assert caught.value.name == name


@pytest.mark.parametrize("who", [PLC, WEB])
def test_a_directory_that_cannot_be_asked_has_said_nothing(who):
    with pytest.raises(FetchFailed) as caught:
        look_up_home(Refusing(FetchFailed("refused")), who)
    assert not isinstance(caught.value, NotFound)


def test_what_was_looked_up_of_somebody_who_was_forgotten_meanwhile_is_not_remembered():
    class Slow:
        def resolve(self, who, _deadline_s):
            if who == PLC:
                forget(PLC)
            return Identity(who, "name.test", "https://pds.test", "key")

    viewers.welcome(PLC, NOW_US)
    author_ids([did("stranger")])
    for who in (PLC, did("stranger")):
        assert look_up_pds(Slow(), who) == "https://pds.test"
    assert load_identity(PLC) is None
    assert load_identity(did("stranger")).pds_url == "https://pds.test"
