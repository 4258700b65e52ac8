"""A source: where it is, what to ask it for, and what its messages mean. The path tells the kind.

A relay numbers its events by itself: its cursor means nothing to anybody else. A Jetstream is asked
by time, which all of them understand; so the number of its events is their time in microseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from server.core.events import Event
from server.core.projection import WANTED_COLLECTIONS
from server.core.setting_values import JETSTREAM_V1_PATH, JETSTREAM_V2_PATH
from server.ingest import jetstream, jetstream_head, relay, relay_head
from server.ingest.compression import Dictionary, DownloadedDictionary, FileDictionary
from server.ingest.sift import Sift

Decode = Callable[[bytes | str, Mapping[str, int]], Event]

_V1_QUERY = [("wantedCollections", name) for name in sorted(WANTED_COLLECTIONS)]
_V2_QUERY = [("collections", name) for name in sorted(WANTED_COLLECTIONS)]


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream stream. `name` is its key in `stream_cursors`.

    `has_chain`: its commits say which commit they continue, so a lost one is noticed.
    `counts_time`: its cursors are microseconds, and good for any other source that counts time.
    `takes_wishes`: what it tells can be changed while it is read (did_filter.py).
    """

    url: str
    name: str
    decode: Decode
    has_chain: bool
    counts_time: bool
    query: Sequence[tuple[str, str]] = ()
    dictionary: Dictionary | None = None
    takes_wishes: bool = False
    # What passes over messages about strangers: of the binary ones, and of text.
    sift_binary: Sift | None = None
    sift_text: Sift | None = None

    def address(self, cursor: int | None) -> str:
        """Where to connect to go on at `cursor`; None: from now on."""
        query = list(self.query)
        if self.dictionary is not None:
            query += self.dictionary.query()
        if cursor is not None:
            query.append(("cursor", str(cursor)))
        return f"{self.url}?{urlencode(query)}" if query else self.url


def source_of(url: str, user_agent: str, dictionary_file: str | None = None) -> Source:
    """The source behind a URL of STREAM_URLS."""
    parts, sift = urlsplit(url), jetstream_head.without_strangers
    if parts.path == JETSTREAM_V1_PATH:
        file = None if dictionary_file is None else FileDictionary(dictionary_file)
        decode = jetstream.decoder(jetstream.decode_v1, file)
        name = f"{parts.netloc}{parts.path}"
        return Source(
            url, name, decode, False, True, _V1_QUERY, file, takes_wishes=True, sift_text=sift
        )
    if parts.path == JETSTREAM_V2_PATH:
        downloaded = DownloadedDictionary(url, user_agent)
        decode = jetstream.decoder(jetstream.decode_v2, downloaded)
        # The two methods of one host are two sources, each with its cursor.
        name = f"{parts.netloc}/{parts.path.rpartition('.')[2]}"
        return Source(url, name, decode, False, True, _V2_QUERY, downloaded, sift_text=sift)
    sift = relay_head.without_strangers
    return Source(url, parts.netloc, relay.decode_frame, True, False, sift_binary=sift)
