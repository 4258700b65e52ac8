"""Pages of records: what is read of them means the same as the whole, and costs little."""

import json
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backfill import record_json
from server.backfill.listing import _project
from server.backfill.pds import MAX_PAGE_BYTES, ListedRecord
from server.backfill.record_json import MAX_RECORDS, Part, parse_page
from server.core.errors import BadRecord
from server.core.projection import project_record
from tests.builders import FOLLOW, NOW_MS, POST, REPOST, cid_text, did, iso, raw_cid, tid
from tests.fuzzing import fuzz

REF = {"uri": f"at://{did('bob')}/{POST}/{tid(1)}", "cid": cid_text(raw_cid(1))}
TEXTS = st.text(max_size=9)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ODD = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def mostly(good):
    """What a record should have here, and now and then something else."""
    return st.integers(0, 7).flatmap(lambda number: ODD if number == 0 else good)


def fields(needed, optional):
    parts = {name: mostly(value) for name, value in (needed | optional).items()}
    return st.fixed_dictionaries(
        {name: parts[name] for name in needed}, optional={name: parts[name] for name in optional}
    )


EMBED_KINDS = ("images", "gallery", "record", "recordWithMedia", "external")
KINDS = st.sampled_from([f"app.bsky.embed.{kind}" for kind in EMBED_KINDS])
TEXT, DATE, BOB = st.just("text"), st.just(iso(NOW_MS)), st.just(did("bob"))
REFS = st.sampled_from([REF, {**REF, "uri": f"at://{did('carl')}/{POST}/{tid(2)}", "x": 1}])
MEDIA = fields({"$type": KINDS}, {"images": ODD})
BOTH = {"$type": "app.bsky.embed.recordWithMedia", "media": {"$type": "app.bsky.embed.images"}}
EMBEDS = st.just(BOTH) | fields({"$type": KINDS}, {"media": MEDIA, "record": REFS})
REPLIES = fields({"parent": REFS | fields({"uri": BOB}, {"cid": TEXT}), "root": REFS}, {"x": ODD})
RECORDS = {
    POST: fields(
        {"createdAt": DATE, "text": TEXT},
        {"$type": st.just(POST), "reply": REPLIES, "embed": EMBEDS, "facets": ODD},
    ),
    REPOST: fields({"createdAt": DATE, "subject": REFS}, {"$type": st.just(REPOST), "via": REFS}),
    FOLLOW: fields({"createdAt": DATE, "subject": BOB}, {"text": ODD, "reply": ODD}),
}
PAGES = st.sampled_from(list(RECORDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(mostly(RECORDS[name]), max_size=9))
)


def page_of(*values, cid=REF["cid"]):
    records = [{"uri": f"at://x/{n}", "cid": cid, "value": v} for n, v in enumerate(values)]
    return json.dumps({"records": records, "cursor": "c"}).encode()


def rows_of(page, collection):
    listed = [ListedRecord(tid(1), entry["cid"], entry["value"]) for entry in page["records"]]
    return [_project(collection, record, NOW_MS) for record in listed]


@fuzz(100)
@given(PAGES, mostly(st.just(REF["cid"])))
def test_what_is_read_of_a_page_gives_the_rows_of_the_whole(page, cid):
    collection, values = page
    body = page_of(*values, cid=cid)
    read, whole = parse_page(body), json.loads(body)
    assert rows_of(read, collection) == rows_of(whole, collection)
    assert [entry["uri"] for entry in read["records"]] == [e["uri"] for e in whole["records"]]
    assert read["cursor"] == whole["cursor"]


class Asked(dict):
    """An object that notes what it was asked for."""

    names: set[str]

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


def test_the_parts_that_are_read_are_those_that_the_projection_asks_for(monkeypatch):
    monkeypatch.setattr(Asked, "names", set(), raising=False)
    kinds = ["app.bsky.embed.recordWithMedia", "app.bsky.embed.record", "app.bsky.embed.images"]
    ref = Asked(REF)
    for kind in kinds:
        embed = Asked({"$type": kind, "media": Asked({"$type": kinds[-1]}), "record": ref})
        reply = Asked({"parent": ref, "root": ref})
        record = Asked({"createdAt": iso(NOW_MS), "text": "", "reply": reply, "embed": embed})
        project_record(POST, tid(1), 0, record, NOW_MS)
    for collection, subject in ((REPOST, ref), (FOLLOW, did("bob"))):
        record = Asked({"createdAt": iso(NOW_MS), "subject": subject})
        project_record(collection, tid(1), 0, record, NOW_MS)
    with pytest.raises(BadRecord):
        project_record(POST, tid(1), 0, Asked(), NOW_MS)
    assert Asked.names == set(Part.__annotations__)


def full(start, piece, end):
    """A body of as many bytes as are taken, most of them of `piece`."""
    return start + piece * ((MAX_PAGE_BYTES - len(start) - len(end)) // len(piece)) + end


RECORD = b'{"records":[{"uri":"at://x","cid":"x","value":{"text":"a",'


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize(
    "body",
    [
        full(RECORD + b'"j":[', b'"ab",', b'"ab"]}}]}'),
        full(RECORD + b'"embed":{"media":{"j":[', b"{},", b"0]}}}}]}"),
        full(RECORD + b'"createdAt":[', b"[],", b"0]}}]}"),
        full(RECORD, b'"reply":{},', b'"text":""}}]}'),
        full(RECORD, b'"ab":0,', b'"text":""}}]}'),
        full(b'{"records":[],', b'"ab":"",', b'"cursor":{"a":1}}'),
        full(b'{"records":[],"cursor":[', b"0,", b"0]}"),
    ],
)
def test_what_nobody_looks_at_becomes_no_objects(body):
    parse_page(page_of())
    tracemalloc.start()
    page = parse_page(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # As much again as was sent, and nothing for each of a million values.
    assert peak < 1.2 * MAX_PAGE_BYTES
    assert len(page["records"]) <= 1


@pytest.mark.attack("strangers' servers")
@pytest.mark.parametrize(
    "body",
    [
        full(b'{"records":[', b'{"uri":""},', b'{"uri":""}]}'),
        b'{"records":[' + b'{"uri":""},' * MAX_RECORDS + b'{"uri":""}]}',
        full(b'{"records":', b"[", b""),
        full(RECORD + b'"j":', b"[", b""),
        full(RECORD, b'"reply":{', b""),
        RECORD + b'"j":' + b"[" * 5000 + b"]" * 5000 + b"}}]}",
        RECORD + b'"j":NaN}}]}',
        RECORD + b'"j":[1,,2]}}]}',
        RECORD + b'"j":"\\ud800"}}]}',
        RECORD + b'"embed":{"$type":"\xff"}}}]}',
        RECORD + b'"j":1}}]}]',
        b'{"records":[5]}',
        b'{"records":[{"value":{}}]}',
        b'{"records":{}}',
        b"{}",
        b"[]",
        b"",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_page_is_a_value_error(body):
    with pytest.raises(ValueError, match=r"."):
        parse_page(body)


@fuzz(200)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}"\\,:1 a', max_size=60).map(str.encode))
def test_whatever_stands_in_a_record_is_read_or_a_value_error(junk):
    body = RECORD + b'"reply":' + junk + b"}}]}"
    try:
        page = parse_page(body)
    except ValueError:
        return
    assert len(page["records"]) <= MAX_RECORDS


def test_pages_are_parsed_one_at_a_time(monkeypatch):
    running, together = [], []
    read = record_json._read

    def slowly(body):
        running.append(body)
        together.append(len(running))
        pause.wait(0.01)
        running.pop()
        return read(body)

    pause = threading.Event()
    monkeypatch.setattr(record_json, "_read", slowly)
    threads = [threading.Thread(target=parse_page, args=(page_of(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 8
