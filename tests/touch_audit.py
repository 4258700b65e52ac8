"""A second opinion on who was touched: triggers that note whose part of pages each row changes.

In a database of SQLite, where transactions write one after the other: what a transaction touches
has to stand in the row that it adds to `touched`, if that was not dropped since.

And on what is there twice: a record that has a row gets no second one, nor for a moment.
"""

import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

_NOTE = (
    "INSERT INTO touch_audit (account, place, what)"
    " SELECT {account}, coalesce(max(place), 0) + 1, '{what}' FROM touched"
)
_CHANGED = (
    " WHEN (NEW.state, NEW.is_active, NEW.horizon_rkey, NEW.newest_id, NEW.loud_id)"
    " IS NOT (OLD.state, OLD.is_active, OLD.horizon_rkey, OLD.newest_id, OLD.loud_id)"
)
# What happens to which rows, and whose part of pages that is.
_EVENTS = [
    ("INSERT", "feed_items", "", "NEW.author_id"),
    ("DELETE", "feed_items", "", "OLD.author_id"),
    ("UPDATE", "feed_items", "", "NEW.author_id"),
    ("UPDATE", "repos", _CHANGED, "NEW.author_id"),
    ("INSERT", "follows", "", "NEW.viewer_id"),
    ("DELETE", "follows", "", "OLD.viewer_id"),
    ("UPDATE", "follows", "", "NEW.viewer_id"),
    ("INSERT", "outside_posts", " WHEN NEW.state <> 0", "NEW.author_id"),
    ("DELETE", "outside_posts", " WHEN OLD.state <> 0", "OLD.author_id"),
    (
        "UPDATE",
        "outside_posts",
        " WHEN (NEW.state, NEW.parent_id) IS NOT (OLD.state, OLD.parent_id)",
        "NEW.author_id",
    ),
]
# The third is 0 for a post, 16 for a repost.
_KEY = "{row}.author_id, {row}.rkey, coalesce({row}.flags, 16) & 16"
_KEPT = [
    "CREATE TABLE record_audit (author_id, rkey, kind, PRIMARY KEY (author_id, rkey, kind))",
    "CREATE TRIGGER record_comes AFTER INSERT ON feed_items BEGIN"
    " INSERT INTO record_audit VALUES ({new}); END",
    "CREATE TRIGGER record_goes AFTER DELETE ON feed_items BEGIN"
    " DELETE FROM record_audit WHERE (author_id, rkey, kind) = ({old}); END",
    "CREATE TRIGGER record_stays AFTER UPDATE ON feed_items WHEN ({new}) <> ({old}) BEGIN"
    " SELECT RAISE (ABORT, 'another record'); END",
]
# The same as a question.
DOUBLED = (
    "SELECT author_id, rkey, coalesce(flags, 16) & 16 FROM feed_items GROUP BY 1, 2, 3"
    " HAVING count(*) > 1"
)


def install(path: Path) -> None:
    """Have every change of this database noted, whoever makes it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE touch_audit (account INTEGER, place INTEGER, what TEXT)")
        for number, (event, table, condition, account) in enumerate(_EVENTS):
            note = _NOTE.format(account=account, what=f"{event} {table}")
            connection.execute(
                f"CREATE TRIGGER touch_audit_{number} AFTER {event} ON {table}{condition}"
                f" BEGIN {note}; END"
            )
        new, old = (_KEY.format(row=row) for row in ("NEW", "OLD"))
        for statement in _KEPT:
            connection.execute(statement.format(new=new, old=old))
        connection.commit()


def untold(path: Path) -> list[tuple[int, str]]:
    """Accounts whose part was changed without a word in the same transaction, and how."""
    with closing(sqlite3.connect(path)) as connection:
        told = dict(connection.execute("SELECT place, accounts FROM touched"))
        oldest = min(told, default=0)
        return [
            (account, what)
            for account, place, what in connection.execute("SELECT * FROM touch_audit")
            if place >= oldest and not _tells(told, place, account)
        ]


def _tells(told: dict[int, bytes | None], place: int, account: int) -> bool:
    if place not in told:
        return False
    accounts = told[place]
    return accounts is None or account in array("i", accounts)
