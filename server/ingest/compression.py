"""zstd with a dictionary: how a Jetstream makes its messages small. A third of the bytes remain.

Version 2 hands its dictionary out (getZstdDictionary), and is asked for it before each connection,
also of those that only ask what time it is: dictionaries retire, and a server refuses who names one
that did. A server without one is read without, and so is, the next time, one that refuses the one
it handed out, or uses another: a cache before it may keep an old one, or another machine of the
same name have another.
The dictionary of version 1 is a file of its source code, which nobody hands out: an operator who
wants compression there gives us the file (JETSTREAM_DICTIONARY).

Bounds: MAX_DICTIONARY_BYTES in DOWNLOAD_SECONDS, MAX_MESSAGE_BYTES after decompression. A server
whose answer has no end costs one thread, and is read without a dictionary.
"""

import http.client
import logging
import threading
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import zstandard

from server.core.errors import BadFrame, StreamBroken
from server.ingest.breaks import kind_of
from server.ingest.dialling import aside

log = logging.getLogger(__name__)

DICTIONARY_PATH = "/xrpc/network.bsky.jetstream.getZstdDictionary"
MAX_DICTIONARY_BYTES = 2_000_000
MAX_MESSAGE_BYTES = 8_000_000
DOWNLOAD_SECONDS = 3.0


class OtherDictionary(StreamBroken):
    """The server compresses with another dictionary than ours."""


class Dictionary(Protocol):
    """Where a dictionary comes from, and what it makes of a message.

    `is_refused`: the server has just called what it was asked a bad request, or used another.
    """

    is_refused: bool

    def prepare(self) -> "Expander | None":
        """Get it; None: there is none. May take seconds, in any thread; changes and raises nothing.

        Whoever gave up waiting for it has no use for what it brings in the end.
        """

    def use(self, expander: "Expander | None") -> None:
        """For the next connection, what `prepare` gave: while one is read, it must stay."""

    def query(self) -> list[tuple[str, str]]:
        """What to ask the server for; nothing without a dictionary."""

    def expand(self, message: bytes) -> bytes:
        """The JSON in a message. Raises BadFrame, or StreamBroken if it needs another dictionary.

        Without that no message at all can be read, and a hole for each would help nobody.
        """


async def renew(dictionary: Dictionary | None) -> None:
    """Get the dictionary to ask for: the one of the last connection may have retired."""
    if dictionary is None:
        return
    if dictionary.is_refused:
        dictionary.use(None)
        return
    try:
        dictionary.use(await aside(dictionary.prepare))
    except TimeoutError:
        # One that does not come in time is done without.
        dictionary.use(None)


def note_end(dictionary: Dictionary | None, broken: StreamBroken) -> None:
    """See from how a connection ended whether the next one may ask for the dictionary."""
    if dictionary is not None:
        is_other = isinstance(broken, OtherDictionary)
        dictionary.is_refused = is_other or kind_of(broken) == "http-400"


class Expander:
    """A dictionary that is there."""

    def __init__(self, content: bytes) -> None:
        data = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.id = data.dict_id()
        if self.id == 0:
            raise ValueError("this is no zstd dictionary")
        self._decompressor = zstandard.ZstdDecompressor(dict_data=data)

    def expand(self, message: bytes) -> bytes:
        """See Dictionary."""
        # A message that does not say how long it will be is given the room of the largest.
        try:
            size = zstandard.frame_content_size(message)
            if size > MAX_MESSAGE_BYTES:
                raise BadFrame(f"a message of {size} bytes")
            return self._decompressor.decompress(message, max_output_size=MAX_MESSAGE_BYTES)
        except zstandard.ZstdError as error:
            theirs = _dictionary_of(message)
            if theirs not in (0, self.id):
                raise OtherDictionary(
                    f"compressed with dictionary {theirs}, and ours is {self.id}"
                ) from error
            raise BadFrame(f"not zstd with our dictionary: {error}") from error


def _dictionary_of(message: bytes) -> int:
    """The number of the dictionary that a message was compressed with; 0: it does not say."""
    try:
        return int(zstandard.get_frame_parameters(message).dict_id)
    except zstandard.ZstdError:
        return 0


class FileDictionary:
    """The dictionary of version 1, from a file that the operator gave."""

    def __init__(self, path: str) -> None:
        self._expander = Expander(Path(path).read_bytes())
        self._is_used = True
        self.is_refused = False

    def prepare(self) -> Expander:
        """It is there."""
        return self._expander

    def use(self, expander: Expander | None) -> None:
        """There is no other."""
        self._is_used = expander is not None

    def query(self) -> list[tuple[str, str]]:
        """Version 1 has one dictionary."""
        return [("compress", "true")] if self._is_used else []

    def expand(self, message: bytes) -> bytes:
        """See Dictionary."""
        return self._expander.expand(message)


class DownloadedDictionary:
    """The dictionary of version 2, from the source itself. `stream_url` is the source's."""

    def __init__(self, stream_url: str, user_agent: str) -> None:
        self.stream_url = stream_url
        self.user_agent = user_agent
        self.is_refused = False
        self._expander: Expander | None = None
        self._under_way = threading.Lock()

    def prepare(self) -> Expander | None:
        """Download it, anew each time: it is small, and the old one may have retired."""
        # Of a head that drips, each byte is in time.
        if not self._under_way.acquire(blocking=False):
            log.info("no dictionary yet, reading without url=%s", self.stream_url)
            return None
        try:
            return Expander(self._download())
        except (OSError, http.client.HTTPException, zstandard.ZstdError, ValueError) as error:
            log.info("no dictionary, reading without url=%s: %s", self.stream_url, error)
            return None
        finally:
            self._under_way.release()

    def use(self, expander: Expander | None) -> None:
        """See Dictionary."""
        self._expander = expander

    def query(self) -> list[tuple[str, str]]:
        """Names the dictionary by the number in it."""
        return [] if self._expander is None else [("zstdDictionary", str(self._expander.id))]

    def expand(self, message: bytes) -> bytes:
        """See Dictionary."""
        if self._expander is None:
            raise StreamBroken("a compressed message, and we asked for none")
        return self._expander.expand(message)

    def _download(self) -> bytes:
        parts = urlsplit(self.stream_url)
        is_tls = parts.scheme == "wss"
        dial = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
        connection = dial(parts.hostname or "", parts.port, timeout=DOWNLOAD_SECONDS)
        try:
            connection.request("GET", DICTIONARY_PATH, headers={"User-Agent": self.user_agent})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            content = _read_whole(answer)
        finally:
            connection.close()
        if answer.length:
            raise ValueError("it was cut off")
        return content


def _read_whole(answer: http.client.HTTPResponse) -> bytes:
    content, until = b"", time.monotonic() + DOWNLOAD_SECONDS
    while piece := answer.read1(65_536):
        content += piece
        if len(content) > MAX_DICTIONARY_BYTES or time.monotonic() > until:
            raise ValueError("it is too long, or too slow")
    return content
