"""What makes events of different sources the same, whichever of them tells it. Pure."""

from server.core.events import UNTOLD, Account, Commit, Identity, Sync

Key = tuple[object, ...]


def key_of(event: Commit | Account | Sync | Identity) -> Key:
    """What makes an event the same from any source."""
    match event:
        case Commit() if event.since == UNTOLD:
            return ("piece", event.repo, event.rev, *((op.collection, op.rkey) for op in event.ops))
        case Commit():
            return ("commit", event.repo, event.rev)
        case Account():
            return ("account", event.repo, event.time_ms, event.active, event.status)
        case _:
            return (type(event).__name__, event.repo, event.time_ms)


def other_keys_of(event: Commit) -> tuple[Key, ...]:
    """The keys of its pieces; of a piece, that of the commit it is a part of."""
    if event.since == UNTOLD:
        return (("commit", event.repo, event.rev),)
    return tuple(("piece", event.repo, event.rev, (op.collection, op.rkey)) for op in event.ops)
