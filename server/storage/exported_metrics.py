"""The leader's metrics, left in the database for whoever is asked for them.

So one address shows everything, wherever the leader runs, and it needs no port of its own.
"""

from server.storage.database import execute, rows

NAME = "ingest"


def save(body: str, epoch: int, now_us: int) -> None:
    """Leave the numbers of this lead. Those of a later lead are not overwritten."""
    execute(
        "INSERT INTO exported_metrics (name, epoch, written_us, body) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch,"
        " written_us = excluded.written_us, body = excluded.body"
        " WHERE exported_metrics.epoch <= excluded.epoch",
        (NAME, epoch, now_us, body),
    )


def load() -> tuple[str, int] | None:
    """The numbers that were left last, and when."""
    found = rows("SELECT body, written_us FROM exported_metrics WHERE name = ?", (NAME,))
    return (str(found[0][0]), int(found[0][1])) if found else None
