"""One viewer's timeline as a person reads it on a terminal. Knows items and words, no network."""

import time
from collections.abc import Callable

from simnet.appview import HydratedItem

_STYLES = {"time": "2", "name": "1;36", "change": "33", "title": "1", "late": "2"}
_NAME_WIDTH = 14
_TEXT_WIDTH = 78


class Narrator:
    """Prints lines; `name_of` turns a handle into a person's name."""

    def __init__(
        self, write: Callable[[str], object], name_of: Callable[[str], str], *, colours: bool
    ) -> None:
        self._write = write
        self._name_of = name_of
        self._colours = colours

    def title(self, text: str) -> None:
        """A line that begins something."""
        self._write(f"\n{self._paint('title', text)}\n")

    def plain(self, text: str) -> None:
        """A line as it is."""
        self._write(f"{text}\n")

    def change(self, at_us: int, text: str) -> None:
        """Something that alters the timeline but is no item of it."""
        self._write(f"{self._paint('time', _clock(at_us))}  {self._paint('change', text)}\n")

    def item(self, item: HydratedItem, *, late_s: float | None = None, dated: bool = False) -> None:
        """One item; `late_s` after it was written, with the day if `dated`."""
        who = f"{self._name_of(item.reposted_by or item.author):<{_NAME_WIDTH}}"
        late = "" if late_s is None else self._paint("late", f"  ({late_s:.1f} s)")
        when = self._paint("time", _day_and_clock(item.sort_us) if dated else _clock(item.sort_us))
        self._write(f"{when}  {self._paint('name', who)}  {self._words(item)}{late}\n")

    def _words(self, item: HydratedItem) -> str:
        if item.reposted_by is not None:
            text = f"reposts {self._name_of(item.author)}: {item.text}"
        elif item.is_reply:
            text = f"replies: {item.text}"
        elif item.quoted_uri is not None:
            text = f"quotes: {item.text}"
        else:
            text = item.text
        return text if len(text) <= _TEXT_WIDTH else text[: _TEXT_WIDTH - 1] + "…"

    def _paint(self, style: str, text: str) -> str:
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self._colours else text


def _clock(at_us: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_us / 1_000_000))


def _day_and_clock(at_us: int) -> str:
    return time.strftime("%a %H:%M", time.localtime(at_us / 1_000_000)) + "  "
