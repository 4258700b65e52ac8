"""Where the row of a record is, by its key: most rows need no index of keys for that.

A record key is a TID, which is a time, and a row stands at a time as well: at the earlier of its
own date and first sight. Nearly always both are of one moment. So a record is looked for among its
author's rows within NEAR_MS of its key's time, by the index that pages need anyway. What stands
elsewhere (backdated, imported, dated in the future, or with a key that is no TID) stands `apart`,
and has an index of its own: `feed_items_apart`, which is small.

Promises: a record that has a row is found, and no other row is taken for it. Of what stands apart
the index refuses a second row; of the rest whoever writes holds the lock on the author's repo, and
looks before it writes.

Bounds: no look for one record reads more than CROWD rows in vain, or twice that at each time where
it may be saved. Nobody has more within SPAN_MS of one place, or they are `crowded`: then all of
their rows stand apart, those to come as well. It is told when rows are written (`find_to_save`), at
the price of writing all rows of the author once. Of whom many records at once are changed or
dropped, where each look goes through many rows, it is told as well: a commit can name 200 of them,
again and again, and add none. Looks for all between two keys read what stands in between, and
`least_rkeys`, of somebody of whom nothing stands near its key and who is no crowd, all of their
rows.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from server.core.projection import KEY_TIE_BITS, SaveItem
from server.storage.database import rows
from server.storage.many_rows import execute_in, insert_rows, rows_in, rows_joined
from server.storage.record_spans import MOST_ID, NEAR_MS, SPAN_MS, ids_of_keys, ranges_around
from server.storage.touched import touch

# A record: author, rkey as a number, collection as a number.
Key = tuple[int, int, int]
# COLUMNS.
Row = tuple[Any, ...]

# Not less: migration 0005 left those uncrowded who have up to 100 in each minute of the clock, and
# SPAN_MS can touch three of these.
CROWD = 300
# Bits of the column `flags` beside those of a post's content (core/projection.py). NULL is a repost
# that does not stand apart because of a crowd, so most reposts: PostgreSQL keeps nothing for it.
# Other values need a migration that makes the index anew.
CROWDED, REPOST = 8, 16
# So many rows a record may be looked through when many are changed or dropped at once.
FEW = 16

# Conditions on an item; {i} is its table's name in the statement.
IS_POST = f"{{i}}.flags & {REPOST} = 0"
IS_REPOST = f"coalesce({{i}}.flags, {REPOST}) & {REPOST} <> 0"
# These two as the index has them, word for word: else it is not taken. The first is 0 or REPOST.
KIND = f"CAST(coalesce({{i}}flags, {REPOST}) & {REPOST} AS SMALLINT)"
IS_APART = (
    f"({{i}}rkey < 0 OR abs(({{i}}id >> {KEY_TIE_BITS}) - ({{i}}rkey >> 10) / 1000) > {NEAR_MS}"
    f" OR coalesce({{i}}flags, 0) & {CROWDED} <> 0)"
)
COLUMNS = ("id", "author_id", "rkey", "flags", "subject_id", "subject_rkey", "root_id", "root_rkey")
# Of a key.
_AUTHOR = itemgetter(0)
_T_COLUMNS = ", ".join(f"t.{column}" for column in COLUMNS)


def is_repost(flags: int | None) -> bool:
    """What a row is, by this column."""
    return flags is None or flags & REPOST != 0


def row_flags(content: int, *, repost: bool, crowded: bool) -> int | None:
    """The column of a row, by what a post shows."""
    if repost:
        return REPOST | CROWDED if crowded else None
    return content | CROWDED if crowded else content


def key_of_row(row: Sequence[Any]) -> Key:
    """The key of a row that begins with COLUMNS as far as `flags`."""
    return row[1], row[2], int(is_repost(row[3]))


def post_sql(columns: str, account: str, rkey: str, and_so: str = "") -> tuple[str, str]:
    """Two SELECTs of `columns` of a post {p}; its row is found by one of them, if there is one."""
    # Keys can name times beyond any at which an item stands: no sum may pass the greatest number.
    latest = (MOST_ID >> KEY_TIE_BITS) - NEAR_MS
    ms = f"CASE WHEN {rkey} < {latest * 1000 << 10} THEN ({rkey} >> 10) / 1000 ELSE {latest} END"
    near = (
        f"p.author_id = {account} AND p.id >= (({ms}) - {NEAR_MS}) << {KEY_TIE_BITS}"
        f" AND p.id <= (({ms}) + {NEAR_MS} << {KEY_TIE_BITS} | {2**KEY_TIE_BITS - 1})"
    )
    wanted = f"{{p}}.rkey = {rkey}{and_so}"
    apart = f"p.author_id = {account} AND {KIND.format(i='p.')} = 0 AND {IS_APART.format(i='p.')}"
    return (
        f"SELECT {columns} FROM (SELECT * FROM feed_items p WHERE {near} LIMIT {CROWD + 1}) few"
        f" WHERE {wanted} AND {IS_POST.format(i='few')}".format(p="few"),
        f"SELECT {columns} FROM feed_items p WHERE {apart} AND {wanted}".format(p="p"),
    )


def find(keys: Collection[Key]) -> dict[Key, Row]:
    """The rows (COLUMNS) of those records that have one."""
    return _look(dict.fromkeys(keys, ()), _crowded_among(keys))[0]


def find_to_save(items: Mapping[Key, SaveItem]) -> tuple[dict[Key, Row], set[int]]:
    """The rows of these records, which are about to be saved, and whose rows are to be `crowded`.

    Inside the transaction that saves them. Whoever comes to have a crowd is made crowded first.
    """
    crowded = _crowded_among(items)
    # With where a row may come to stand.
    wanted = {
        key: (at_ms,) if (at_ms := item.sort_ms) == item.created_ms else (at_ms, item.created_ms)
        for key, item in items.items()
    }
    found, held = _look(wanted, crowded)
    coming = Counter(map(_AUTHOR, items))
    # Mostly nobody: a row that is there already counts twice.
    many = {who for who, count in coming.items() if count + len(held.get(who, ())) > CROWD}
    many -= crowded
    more = _who_has_too_many(held, coming)
    more |= {who for who in many if _is_crowd([*held[who], *_places(who, items, found)])}
    return (_in_a_crowd(wanted, more, crowded), crowded | more) if more else (found, crowded)


def find_to_drop(keys: Collection[Key]) -> dict[Key, Row]:
    """The rows of these records, which are about to be dropped.

    Inside the transaction that drops them, as above.
    """
    crowded, wanted = _crowded_among(keys), dict.fromkeys(keys, ())
    found, held = _look(wanted, crowded)
    more = _who_has_too_many(held, Counter(map(_AUTHOR, keys)))
    return _in_a_crowd(wanted, more, crowded) if more else found


def in_ranges(ranges: Iterable[tuple[int, int, int, int]]) -> set[Key]:
    """The records that have a row; of an author and a collection, from the least key to the last.

    Numbers, and both keys are meant.
    """
    listed = list(ranges)
    crowded = _crowded_among(listed)
    apart = [(author, REPOST * number, low, high) for author, number, low, high in listed]
    near = [
        (*one, *ids_of_keys(max(low, 0), high))
        for *one, low, high in apart
        if high >= 0 and one[0] not in crowded
    ]
    theirs = f"t.author_id = v.column1 AND {KIND.format(i='t.')} = v.column2"
    of_near = f"{theirs} AND t.id BETWEEN v.column3 AND v.column4"
    of_apart = f"{theirs} AND t.rkey BETWEEN v.column3 AND v.column4 AND {IS_APART.format(i='t.')}"
    found = rows_joined(_T_COLUMNS, "feed_items", of_near, near)
    found += rows_joined(_T_COLUMNS, "feed_items", of_apart, apart)
    return {key_of_row(row) for row in found}


def from_key_on(author_id: int, collection: int, rkey: int) -> list[tuple[int, int]]:
    """Record key and id of an author's rows of this collection, from this key (a TID's) on."""
    theirs = (
        "SELECT i.rkey, i.id FROM feed_items i"
        f" WHERE i.author_id = ? AND {KIND.format(i='i.')} = ? AND i.rkey >= ?"
    )
    apart = IS_APART.format(i="i.")
    wanted = (author_id, REPOST * collection, rkey)
    first, _ = ids_of_keys(rkey, rkey)
    return rows(
        f"{theirs} AND i.id >= ? AND NOT {apart} UNION ALL {theirs} AND {apart}",
        (*wanted, first, *wanted),
    )


def least_rkeys(author_ids: Collection[int]) -> list[tuple[int, int, int]]:
    """Author, collection and least TID (as a number) of what we hold of each."""
    crowded = _crowded_among((author_id,) for author_id in author_ids)
    apart = IS_APART.format(i="i.")
    # A lesser key's row cannot stand further on than by this, from the first one.
    span = 2 * NEAR_MS + 1 << KEY_TIE_BITS
    last = f"CASE WHEN i.id < {MOST_ID - span} THEN i.id + {span} ELSE {MOST_ID} END"
    least: dict[tuple[int, int], int] = {}
    for collection in (0, 1):
        theirs = (
            "FROM feed_items i WHERE i.author_id = r.author_id"
            f" AND {KIND.format(i='i.')} = {REPOST * collection}"
        )
        until = f"(SELECT {last} {theirs} AND NOT {apart} ORDER BY i.id LIMIT 1)"
        # Of a crowd, all rows would be looked through for one that is near.
        for condition, among in (
            (f"NOT {apart} AND i.id <= {until}", set(author_ids) - crowded),
            (f"{apart} AND i.rkey >= 0", author_ids),
        ):
            found = f"(SELECT min(i.rkey) {theirs} AND {condition})"
            for author_id, rkey in rows_in(
                f"SELECT r.author_id, {found} FROM repos r WHERE r.author_id", among
            ):
                if rkey is not None:
                    key = author_id, collection
                    least[key] = min(rkey, least.get(key, rkey))
    return [(*key, rkey) for key, rkey in least.items()]


def _look(
    wanted: Mapping[Key, Sequence[int]], crowded: set[int]
) -> tuple[dict[Key, Row], Mapping[int, list[int]]]:
    """Rows of these records; and, by author, when all stand that stand around their times.

    These are the times of the keys, and those that come with them. All in milliseconds.
    """
    close = rows_joined(
        _T_COLUMNS,
        "feed_items",
        "t.author_id = v.column1 AND t.id BETWEEN v.column2 AND v.column3",
        ranges_around(wanted, crowded),
    )
    apart = rows_joined(
        _T_COLUMNS,
        "feed_items",
        f"t.author_id = v.column1 AND {KIND.format(i='t.')} = v.column2"
        f" AND t.rkey = v.column3 AND {IS_APART.format(i='t.')}",
        [(author_id, REPOST * number, rkey) for author_id, rkey, number in wanted],
    )
    found = {key: row for row in (*close, *apart) if (key := key_of_row(row)) in wanted}
    held: defaultdict[int, list[int]] = defaultdict(list)
    for row in close:
        held[row[1]].append(row[0] >> KEY_TIE_BITS)
    return found, held


def _who_has_too_many(held: Mapping[int, list[int]], counts: Mapping[int, int]) -> set[int]:
    """Who could have us look through many rows again and again, and is no crowd yet.

    By the rows looked through, and for how many records. For one, who is no crowd has no more than
    twice CROWD around its time.
    """
    return {who for who, theirs in held.items() if len(theirs) > 2 * CROWD + FEW * counts[who]}


def _places(
    author_id: int, items: Mapping[Key, SaveItem], found: Mapping[Key, Row]
) -> Iterator[int]:
    """Where items of this author will stand that do not stand there yet."""
    for key, item in items.items():
        if key[0] == author_id:
            if key not in found:
                yield item.sort_ms
            elif item.created_ms < found[key][0] >> KEY_TIE_BITS:
                yield item.created_ms


def _is_crowd(times: list[int]) -> bool:
    """Whether more than CROWD of these are within SPAN_MS of each other."""
    times.sort()
    return any(last - first <= SPAN_MS for first, last in zip(times, times[CROWD:], strict=False))


def _in_a_crowd(
    wanted: Mapping[Key, Sequence[int]], more: set[int], crowded: set[int]
) -> dict[Key, Row]:
    """Rows of these records as they are when `more` are crowded as well: from now on."""
    _make_crowded(sorted(more))
    return _look(wanted, crowded | more)[0]


def _crowded_among(keys: Iterable[Sequence[int]]) -> set[int]:
    """Those of these records' authors who are crowded."""
    authors = set(map(_AUTHOR, keys))
    found = rows_in("SELECT author_id FROM crowded_authors WHERE author_id", authors)
    return {number for (number,) in found}


def _make_crowded(author_ids: Sequence[int]) -> None:
    insert_rows("INSERT INTO crowded_authors (author_id)", [(number,) for number in author_ids])
    execute_in(
        f"UPDATE feed_items SET flags = coalesce(flags, {REPOST}) | {CROWDED} WHERE author_id",
        author_ids,
    )
    touch(author_ids)
