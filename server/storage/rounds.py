"""How far work has come that goes round and round through all authors, a slice at a time.

Kept in the database, so that a restart does not begin again at the first author and the last ones
get their turn.
"""

from dataclasses import dataclass

from server.storage.database import execute, rows


@dataclass(frozen=True, slots=True)
class Round:
    """A round under way: the last author done, 0 between two rounds; and when it began."""

    author_id: int
    began_us: int


def load(name: str) -> Round:
    """Where the round with this name is."""
    found = rows("SELECT author_id, began_us FROM rounds WHERE name = ?", (name,))
    return Round(*found[0]) if found else Round(0, 0)


def move(name: str, author_id: int, now_us: int) -> None:
    """The round has come to this author, or (0) to its end. One that begins, begins now."""
    execute(
        "INSERT INTO rounds (name, author_id, began_us) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET author_id = excluded.author_id, began_us ="
        " CASE WHEN rounds.author_id = 0 THEN excluded.began_us ELSE rounds.began_us END",
        (name, author_id, now_us),
    )
