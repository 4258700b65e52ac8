"""Who is refused for want of room is told in the log, and cannot fill it."""

import logging

from server import gunicorn_last_words
from server.gunicorn_last_words import TELL_SECONDS, Refusals


def test_a_flood_of_refusals_is_a_line_a_second_with_how_many_there_were(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    now_s = 100.0
    monkeypatch.setattr(gunicorn_last_words.time, "monotonic", lambda: now_s)
    refusals = Refusals()
    refusals.tell("the first")
    for _ in range(1_000):
        refusals.tell("one of many")
    now_s += TELL_SECONDS
    refusals.tell("the last")
    assert [record.getMessage() for record in caplog.records] == [
        "too busy: requests refused count=1: the first",
        "too busy: requests refused count=1001: the last",
    ]
