"""What the words of a TimelineFilter mean, in SQL: whose items, and which of them.

Fragments for `timeline.py`, which calls an item `i`. Parameters: `:viewer`, and `:quiet`, the sort
key from which on a quiet author's items are counted. Each fragment is answered by a few probes of
an index an item or an author, however much there is.
"""

from server.core.feed import TimelineFilter
from server.core.projection import QUOTE, REPLY
from server.storage import outside_posts, repos
from server.storage.newest import MEDIA_POST
from server.storage.records import IS_POST, post_sql

# The condition of a feed that leaves nothing out.
EVERY_ITEM = "1 = 1"

_FOLLOWS_BACK = (
    "(EXISTS (SELECT 1 FROM follow_backs b WHERE b.viewer_id = :viewer"
    " AND b.author_id = {account} AND b.rkey IS NOT NULL)"
    # Of those who are viewers themselves we know all follows.
    " OR EXISTS (SELECT 1 FROM follows w"
    " WHERE w.viewer_id = {account} AND w.subject_id = :viewer))"
)

# What somebody followed has to be, what their repo `r`, and whether the viewer's own items are
# shown.
_OF_THEM = {"followed": EVERY_ITEM, "mutual": _FOLLOWS_BACK, "quiet": EVERY_ITEM}
_OF_REPO = {"followed": "", "mutual": "", "quiet": " AND r.loud_id < :quiet"}
_WITH_OWN = {"followed": True, "mutual": True, "quiet": False}

# LIMIT makes it a probe of the index also in PostgreSQL, which could read all follows otherwise.
_FOLLOWS = (
    "(SELECT 1 FROM follows w WHERE w.viewer_id = :viewer AND w.subject_id = {account} LIMIT 1)"
    " IS NOT NULL"
)

_IS_FOLLOWED = f"({{account}} = :viewer OR {_FOLLOWS})"

# Of {account} and {rkey}, to be filled in later.
_HAS_ROW = "(EXISTS ({}) OR EXISTS ({}))".format(*post_sql("1", "{{account}}", "{{rkey}}"))

_IS_HIDDEN = "EXISTS (SELECT 1 FROM repos g WHERE g.author_id = {account} AND g.is_active = 0)"

# A post that a reply hangs on is gone, as far as we can know: its author is hidden; or we have no
# such post, and either its author is complete with us down to its key, or their PDS has none. Odd
# keys have no place among the TIDs: they are known of whoever is complete to the beginning.
_IS_GONE = (
    f"({_IS_HIDDEN}"
    f" OR (NOT {_HAS_ROW} AND"
    " (EXISTS (SELECT 1 FROM repos g WHERE g.author_id = {account}"
    f" AND g.state = {repos.LIVE}"
    " AND ({rkey} > g.horizon_rkey OR g.horizon_rkey = 0))"
    " OR EXISTS (SELECT 1 FROM outside_posts o WHERE o.author_id = {account}"
    f" AND o.rkey = {{rkey}} AND o.state = {outside_posts.MISSING}))))"
)

# The grandparent: whom the parent of a reply replies to, where we know the parent. Where we have
# its row (nobody is 0), that it replies to nobody is as good as a name.
_GRANDPARENT = (
    "nullif(coalesce(({}), ({}),".format(
        *post_sql("coalesce({p}.subject_id, 0)", "i.subject_id", "i.subject_rkey")
    )
    + " (SELECT o.parent_id FROM outside_posts o"
    " WHERE o.author_id = i.subject_id AND o.rkey = i.subject_rkey)), 0)"
)

# Whether somebody other than the author is the grandparent; nobody who is hidden. {and_so} is asked
# of x.id. LIMIT keeps PostgreSQL from working that out anew for each question.
_OTHER_GRANDPARENT = (
    f"EXISTS (SELECT 1 FROM (SELECT {_GRANDPARENT} AS id LIMIT 1) x"
    " WHERE x.id <> i.author_id{and_so}"
    f" AND NOT {_IS_HIDDEN.format(account='x.id')})"
)

# The official app's rule for replies in Following: threads with oneself; and replies where somebody
# else in it, parent, grandparent or root, is followed or is the viewer; but nothing that hangs on a
# missing post. (That comes last, for it takes the most looks.)
_FOLLOWING_REPLY = f"""(i.subject_id IS NOT NULL
    AND CASE WHEN i.subject_id <> i.author_id
           AND {_IS_FOLLOWED.format(account="i.subject_id")} THEN 1
         WHEN i.root_id <> i.author_id AND {_IS_FOLLOWED.format(account="i.root_id")} THEN 1
         WHEN i.subject_id = i.author_id AND coalesce(i.root_id, i.author_id) = i.author_id
           AND NOT {_OTHER_GRANDPARENT.format(and_so="")} THEN 1
         WHEN {_OTHER_GRANDPARENT.format(and_so=f" AND {_IS_FOLLOWED.format(account='x.id')}")}
           THEN 1
         ELSE 0 END = 1
    AND NOT {_IS_GONE.format(account="i.subject_id", rkey="i.subject_rkey")}
    AND (i.root_id IS NULL OR NOT {_IS_GONE.format(account="i.root_id", rkey="i.root_rkey")}))"""

_OF_QUOTE = post_sql("1", "i.subject_id", "i.subject_rkey", f" AND {{p}}.flags & {QUOTE} <> 0")
_IS_FOLLOWED_QUOTE = (
    f"((EXISTS ({_OF_QUOTE[0]}) OR EXISTS ({_OF_QUOTE[1]}))"
    f" AND {_IS_FOLLOWED.format(account='i.subject_id')})"
)


# What the rule asks of a reply `i` that is the same for all viewers: the grandparent; whether that
# one is hidden; whether what the reply hangs on is gone. (core/threads.py goes on from there.)
THREAD_COLUMNS = (
    _GRANDPARENT,
    f"CASE WHEN {_IS_HIDDEN.format(account=_GRANDPARENT)} THEN 1 ELSE 0 END",
    f"CASE WHEN {_IS_GONE.format(account='i.subject_id', rkey='i.subject_rkey')}"
    f" OR (i.root_id IS NOT NULL AND {_IS_GONE.format(account='i.root_id', rkey='i.root_rkey')})"
    " THEN 1 ELSE 0 END",
)


def authors_sql(shown: TimelineFilter) -> str:
    """A SELECT of the accounts whose items a feed shows to :viewer, each once.

    If their repos are such as `repo_sql` says.
    """
    # In the order of the index, however many follow records name one.
    followed = "SELECT DISTINCT subject_id FROM follows"
    of_them = _OF_THEM[shown.authors].format(account="f.subject_id")
    own = " UNION ALL SELECT :viewer" if _WITH_OWN[shown.authors] else ""
    return (
        f"SELECT f.subject_id FROM ({followed} WHERE viewer_id = :viewer"
        f" AND subject_id <> :viewer) f WHERE {of_them}{own}"
    )


def author_sql(shown: TimelineFilter, account: str) -> str:
    """The condition that an account is one of these."""
    other = f"{account} <> :viewer AND {_FOLLOWS} AND {_OF_THEM[shown.authors]}"
    own = f"{account} = :viewer" if _WITH_OWN[shown.authors] else "1 = 0"
    return f"({own} OR ({other.format(account=account)}))"


def repo_sql(shown: TimelineFilter) -> str:
    """The condition on the repo `r` of one of them that its items are shown."""
    return f"r.is_active = 1{_OF_REPO[shown.authors]}"


def kind_sql(shown: TimelineFilter) -> str:
    """The part of the condition on an item `i` that an index answers."""
    return MEDIA_POST if shown.media_only else EVERY_ITEM


def items_sql(shown: TimelineFilter) -> str:
    """The condition on an item `i` of one of them."""
    conditions = []
    if shown.media_only:
        conditions.append(MEDIA_POST)
    elif not shown.reposts:
        conditions.append(IS_POST.format(i="i"))
    is_no_reply = f"(coalesce(i.flags, 0) & {REPLY} = 0"
    if shown.replies == "none":
        conditions.append(f"{is_no_reply})")
    elif shown.replies == "following":
        conditions.append(f"{is_no_reply} OR {_FOLLOWING_REPLY})")
    if not shown.quotes:
        conditions.append(
            f"CASE WHEN {IS_POST.format(i='i')} THEN i.flags & {QUOTE} = 0"
            f" ELSE NOT {_IS_FOLLOWED_QUOTE} END"
        )
    return " AND ".join(conditions) or EVERY_ITEM
