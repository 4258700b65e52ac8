"""What we ask a PDS, and what we believe of its answers.

A PDS is anybody's machine. An answer counts only where it can be checked: a record's URI must name
the repo and the collection that were asked for (else it could put other people's posts into
feeds), a page must make sense beside the one before (listing.py), and everything is bounded in
bytes, records and time. The rest raises FetchFailed, and the job is tried again later. A repo that
the PDS does not show raises NotFound with its word for why.

Whoever waits for an answer holds no connection to the database (`release`): there are fewer of
these than threads that ask, and who gets none for ten seconds ends the lead.

A page of more than MAX_PAGE_BYTES is asked for again with fewer records, down to one. A record that
is larger alone, as no client writes any, cannot be listed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from server.backfill.record_json import parse_page
from server.core.errors import FetchFailed, TooLarge
from server.core.syntax import is_rkey, is_tid, tid_to_int, tid_us
from server.identity.fetcher import Fetcher
from server.storage.database import release

PAGE_RECORDS = 100
# Of the first page of a collection: an app's first page has 30 items, so it can hold no more of it.
FIRST_RECORDS = 30
# 100 posts are 100 kB; with four pictures each, all described at length, they come near this. A
# record has up to 1 MB in a repo, so one alone fits. Each worker may hold a page or two of these.
MAX_PAGE_BYTES = 2_000_000
# By what the number of records is divided when a page is too large.
FEWER = 10
# Of a rev, or of one record; these are parsed whole.
MAX_ANSWER_BYTES = 100_000
# A record's path has 550 at most.
MAX_CURSOR_CHARS = 2_000
# A PDS on somebody's home line is slow, not dead.
DEADLINE_SECONDS = 20.0
# How far ahead of ours a PDS's clock may be.
MAX_AHEAD_US = 300_000_000


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """One record of a listing. `cid` and `value` are the PDS's word, unchecked."""

    rkey: str
    cid: object
    value: object


@dataclass(frozen=True, slots=True)
class RawPage:
    """Records in the order of the PDS, and its word for where to go on; None: there is no more.

    There is a record where there is a cursor.
    """

    records: list[ListedRecord]
    cursor: str | None


def latest_rev(fetcher: Fetcher, pds_url: str, did: str) -> int:
    """The rev that the repo has now. Raises NotFound for a repo that is not shown."""
    answer = _ask(fetcher, pds_url, "com.atproto.sync.getLatestCommit", {"did": did})
    rev = answer.get("rev")
    number = tid_to_int(rev) if isinstance(rev, str) and is_tid(rev) else 0
    # 0 is a TID by its letters, and stands for "none" everywhere here.
    if number == 0:
        raise FetchFailed("getLatestCommit gave no rev")
    # Believed, it would make us deaf to every commit until then. Relays draw the same line.
    if tid_us(number) > time.time_ns() // 1000 + MAX_AHEAD_US:
        raise FetchFailed("getLatestCommit gave a rev of the future")
    return number


def list_records(
    fetcher: Fetcher,
    pds_url: str,
    did: str,
    collection: str,
    cursor: str | None,
    limit: int | None = None,
) -> RawPage:
    """One page of a collection, none of its keys twice. Each PDS has an order of its own."""
    limit = limit or PAGE_RECORDS
    params = {"repo": did, "collection": collection, "limit": str(limit)}
    if cursor is not None:
        params["cursor"] = cursor
    answer = _ask_page(fetcher, pds_url, params)
    listed = answer.get("records")
    if not isinstance(listed, list) or len(listed) > limit:
        raise FetchFailed("listRecords gave no page")
    prefix = f"at://{did}/{collection}/"
    records = [_record(entry, prefix) for entry in listed]
    if len({record.rkey for record in records}) < len(records):
        raise FetchFailed("listRecords gave a record twice")
    following = answer.get("cursor")
    if following is None or following == "":
        return RawPage(records, None)
    # Taken for the end, these would take away everything of ours below.
    if not isinstance(following, str):
        raise FetchFailed("listRecords gave a cursor that is no text")
    if not listed:
        raise FetchFailed("listRecords gave an empty page that is not the last")
    if len(following) > MAX_CURSOR_CHARS:
        raise FetchFailed("listRecords gave a cursor that is too long")
    return RawPage(records, following)


def get_record(fetcher: Fetcher, pds_url: str, did: str, collection: str, rkey: str) -> object:
    """The value of one record, unchecked. Raises NotFound if it is not there, or not shown."""
    params = {"repo": did, "collection": collection, "rkey": rkey}
    answer = _ask(fetcher, pds_url, "com.atproto.repo.getRecord", params)
    if answer.get("uri") != f"at://{did}/{collection}/{rkey}":
        raise FetchFailed("getRecord gave another record")
    return answer.get("value")


def _record(entry: object, prefix: str) -> ListedRecord:
    uri = entry.get("uri") if isinstance(entry, Mapping) else None
    if not isinstance(uri, str) or not uri.startswith(prefix) or not is_rkey(uri[len(prefix) :]):
        raise FetchFailed("listRecords gave a record of another repo or collection")
    assert isinstance(entry, Mapping)  # noqa: S101  for the type checker; seen two lines above
    return ListedRecord(uri[len(prefix) :], entry.get("cid"), entry.get("value"))


def _ask_page(fetcher: Fetcher, pds_url: str, params: Mapping[str, str]) -> Mapping[str, object]:
    """What listRecords says; of fewer records than `params` wants where they are too large."""
    nsid = "com.atproto.repo.listRecords"
    release()
    deadline, limit = time.monotonic() + DEADLINE_SECONDS, int(params["limit"])
    while True:
        try:
            answer = fetcher.get_json(
                f"{pds_url}/xrpc/{nsid}",
                {**params, "limit": str(limit)},
                deadline_s=deadline - time.monotonic(),
                max_bytes=MAX_PAGE_BYTES,
                parse=parse_page,
            )
        except TooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // FEWER)
        else:
            return _object(answer, nsid)


def _ask(
    fetcher: Fetcher, pds_url: str, nsid: str, params: Mapping[str, str]
) -> Mapping[str, object]:
    release()
    url = f"{pds_url}/xrpc/{nsid}"
    answer = fetcher.get_json(url, params, deadline_s=DEADLINE_SECONDS, max_bytes=MAX_ANSWER_BYTES)
    return _object(answer, nsid)


def _object(answer: object, nsid: str) -> Mapping[str, object]:
    if not isinstance(answer, Mapping):
        raise FetchFailed(f"{nsid} gave no object")
    return answer
