"""What a PDS may answer: a page that is about what was asked for, or nothing that counts."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backfill import pds
from server.backfill.pds import get_record, latest_rev, list_records
from server.backfill.record_json import parse_page
from server.core.errors import FetchFailed, TooLarge
from server.storage import repos
from tests.backfill.accounts import fetch, reset, state, stored, truth
from tests.builders import did, tid
from tests.fuzzing import JSONISH, fuzz

ALICE = did("alice")
POST = "app.bsky.feed.post"
PDS = "https://pds.example.com"
PREFIX = f"at://{ALICE}/{POST}/"

URIS = (
    st.integers(0, 9).map(lambda number: PREFIX + tid(number))
    | st.text(max_size=8).map(lambda text: PREFIX + text)
    | st.sampled_from([f"at://{did('mallory')}/{POST}/{tid(1)}", f"at://{ALICE}/x.y.z/{tid(1)}"])
)
ENTRIES = st.fixed_dictionaries({"uri": URIS}, optional={"cid": JSONISH, "value": JSONISH})
ANSWERS = (
    st.fixed_dictionaries(
        {"records": st.lists(ENTRIES | JSONISH, max_size=5)},
        optional={"cursor": st.text(max_size=5) | JSONISH},
    )
    | st.fixed_dictionaries({}, optional={"rev": st.just(tid(3)) | JSONISH, "uri": URIS})
    | JSONISH
)


class OneAnswer:
    """A fetcher for which every host says the same."""

    def __init__(self, answer):
        self.answer = answer

    def get_json(self, url, params=None, *, deadline_s, max_bytes, parse=None):
        assert url.startswith(PDS + "/xrpc/")
        assert 0 < deadline_s <= 30
        assert max_bytes <= 2_000_000
        return self.answer


class Heavy:
    """A fetcher whose pages fit if they have no more than so many records."""

    def __init__(self, fits):
        self.fits, self.limits = fits, []

    def get_json(self, url, params, **_bounds):
        limit = int(params["limit"])
        self.limits.append(limit)
        if limit > self.fits:
            raise TooLarge("pds.example.com: the answer is too large")
        keys = [tid(-number) for number in range(limit)]
        return {"records": [{"uri": PREFIX + key} for key in keys], "cursor": keys[-1]}


def test_a_page_that_is_too_large_is_asked_for_with_fewer_records():
    heavy = Heavy(fits=10)
    page = list_records(heavy, PDS, ALICE, POST, None)
    assert heavy.limits == [100, 10]
    assert len(page.records) == 10
    assert page.cursor == page.records[-1].rkey


def test_a_record_that_is_too_large_alone_is_a_failure():
    heavy = Heavy(fits=0)
    with pytest.raises(TooLarge):
        list_records(heavy, PDS, ALICE, POST, None, 30)
    assert heavy.limits == [30, 3, 1]


@pytest.mark.parametrize("cursor", ["5", "false", '{"a": "b"}', '["b"]'])
def test_a_cursor_that_is_no_text_is_not_the_end(cursor):
    body = f'{{"records": [{{"uri": "{PREFIX}{tid(1)}"}}], "cursor": {cursor}}}'
    with pytest.raises(FetchFailed, match="cursor"):
        list_records(OneAnswer(parse_page(body.encode())), PDS, ALICE, POST, None)


@pytest.mark.parametrize("cursor", ["null", '""'])
def test_a_cursor_that_is_empty_is_the_end(cursor):
    body = f'{{"records": [{{"uri": "{PREFIX}{tid(1)}"}}], "cursor": {cursor}}}'
    page = list_records(OneAnswer(parse_page(body.encode())), PDS, ALICE, POST, None)
    assert page.cursor is None


@fuzz(100)
@given(ANSWERS, st.none() | st.integers(0, 9).map(tid))
def test_a_page_is_about_the_repo_that_was_asked_for_or_counts_for_nothing(answer, cursor):
    try:
        page = list_records(OneAnswer(answer), PDS, ALICE, POST, cursor, 5)
    except FetchFailed:
        return
    keys = [record.rkey for record in page.records]
    assert len(set(keys)) == len(keys)
    assert [PREFIX + key for key in keys] == [entry["uri"] for entry in answer["records"]]
    # A listing that goes on has shown something.
    assert page.cursor is None or (keys and page.cursor == answer["cursor"])


@fuzz(60)
@given(ANSWERS)
def test_other_answers_are_what_they_should_be_or_count_for_nothing(answer):
    with suppress(FetchFailed):
        assert 0 < latest_rev(OneAnswer(answer), PDS, ALICE) < 2**63
    try:
        value = get_record(OneAnswer(answer), PDS, ALICE, POST, tid(1))
    except FetchFailed:
        return
    assert answer["uri"] == PREFIX + tid(1)
    assert value == answer.get("value") or value != value


@pytest.mark.usefixtures("db")
def test_a_repo_whose_pages_are_too_large_is_read_whole(net, alice, sources, monkeypatch):
    monkeypatch.setattr(pds, "MAX_PAGE_BYTES", 20_000)
    for number in range(45):
        long = [f"{number} {'x' * 1000}"] if number % 9 else ["x" * 15_000]
        alice.edit(alice.post(str(number)), tags=long)
    reset(alice)
    fetch(alice, sources)
    assert stored(alice) == truth(alice)
    assert state(alice) == (repos.LIVE, 1, None)
