"""Accounts of simnet as our database has them: tracked, fetched, compared with their repos."""

from threading import Event as StopEvent

from server.backfill.author import Backfill
from server.core.syntax import POST, REPOST
from server.storage import repos
from server.storage.authors import author_ids
from server.storage.database import rows, write_transaction
from server.storage.records import is_repost
from server.storage.rkeys import decode_rkeys
from tests.builders import NOW_US, job_of_did


def track(account, wants=repos.ITEMS):
    with write_transaction():
        repos.track(author_ids([account.did]).values(), wants, NOW_US)


def tracked(net, name):
    """A new account, tracked and not fetched."""
    account = net.create_account(name)
    track(account)
    return account


def reset(account):
    """As after a hole."""
    with write_transaction():
        repos.reset(list(author_ids([account.did]).values()), NOW_US)


def fetch(account, sources):
    """As many turns of the account's job as it wants."""
    job = job_of_did(account.did, sources.epoch)
    assert job is not None
    for _ in range(9):
        Backfill(job, sources, StopEvent()).run()
        job = job_of_did(account.did, sources.epoch)
        if job is None:
            return
    raise AssertionError("the job does not come to its end")


def stored(account):
    """Paths of our rows."""
    found = rows(
        "SELECT i.flags, i.rkey FROM feed_items i JOIN authors a ON a.id = i.author_id"
        " WHERE a.did = ?",
        (account.did,),
    )
    texts = decode_rkeys({rkey for _, rkey in found})
    return {(REPOST if is_repost(flags) else POST, texts[rkey]) for flags, rkey in found}


def truth(account):
    """Paths that the repo has."""
    repo = account.state.repo
    return {(name, rkey) for name in (POST, REPOST) for rkey in repo.rkeys(name)}


def state(account):
    return rows(
        "SELECT r.state, r.is_active, r.status FROM repos r JOIN authors a ON a.id = r.author_id"
        " WHERE a.did = ?",
        (account.did,),
    )[0]
