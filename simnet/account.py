"""What a person does on the network, from Python: the handle tests, traffic and demo hold."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from simnet import frames
from simnet.clock import iso
from simnet.host import Host
from simnet.repo import Ref, Write
from simnet.world import AccountState

POST, REPOST = "app.bsky.feed.post", "app.bsky.feed.repost"
LIKE, FOLLOW = "app.bsky.feed.like", "app.bsky.graph.follow"


class Account:
    """One account. `at_us` lets something happen at another time than now, `emit=False` in silence.

    `created_at` is what the record says of itself: text as it is, a number as microseconds.
    """

    def __init__(self, state: AccountState, hosts: Sequence[Host]) -> None:
        self.state = state
        self._hosts = hosts
        self._world = hosts[0].world

    def __repr__(self) -> str:
        return f"Account({self.handle})"

    @property
    def did(self) -> str:
        """Its name for machines."""
        return self.state.did

    @property
    def handle(self) -> str:
        """Its name for people."""
        return self.state.handle

    @property
    def status(self) -> str:
        """`active`, or why not."""
        return self.state.status

    @property
    def pds(self) -> Host:
        """Where it lives now."""
        return self._hosts[self.state.pds]

    def post(
        self,
        text: str,
        *,
        reply_to: Ref | None = None,
        quote: Ref | None = None,
        embed: dict[str, Any] | None = None,
        created_at: str | int | None = None,
        rkey: str | None = None,
        at_us: int | None = None,
        emit: bool = True,
    ) -> Ref:
        """Write a post; the root of a reply is found by itself."""
        now_us = self._now(at_us)
        record: dict[str, Any] = {"text": text, "createdAt": _stamp(created_at, now_us)}
        if reply_to is not None:
            record["reply"] = {"root": self._root_of(reply_to), "parent": reply_to._asdict()}
        if quote is not None:
            record["embed"] = {"$type": "app.bsky.embed.record", "record": quote._asdict()}
        if embed is not None:
            record["embed"] = embed
        return self.apply([Write("create", POST, rkey, record)], at_us=now_us, emit=emit)[0]

    def repost(
        self,
        subject: Ref,
        *,
        via: Ref | None = None,
        created_at: str | int | None = None,
        rkey: str | None = None,
        at_us: int | None = None,
        emit: bool = True,
    ) -> Ref:
        """Repost; doing it twice makes two records."""
        now_us = self._now(at_us)
        record = {"subject": subject._asdict(), "createdAt": _stamp(created_at, now_us)}
        if via is not None:
            record["via"] = via._asdict()
        return self.apply([Write("create", REPOST, rkey, record)], at_us=now_us, emit=emit)[0]

    def like(self, subject: Ref, *, at_us: int | None = None, emit: bool = True) -> Ref:
        """Like: traffic that no timeline shows."""
        now_us = self._now(at_us)
        record = {"subject": subject._asdict(), "createdAt": iso(now_us)}
        return self.apply([Write("create", LIKE, None, record)], at_us=now_us, emit=emit)[0]

    def follow(
        self,
        other: "Account | str",
        *,
        rkey: str | None = None,
        at_us: int | None = None,
        emit: bool = True,
    ) -> Ref:
        """Follow an account or a DID; doing it twice makes two records."""
        now_us = self._now(at_us)
        record = {"subject": _did(other), "createdAt": iso(now_us)}
        return self.apply([Write("create", FOLLOW, rkey, record)], at_us=now_us, emit=emit)[0]

    def unfollow(self, other: "Account | str", *, emit: bool = True) -> list[Ref]:
        """Delete every follow of that account, in one commit."""
        did = _did(other)
        with self._world.lock:
            refs = [ref for ref, subject in self._follow_records() if subject == did]
            writes = [Write("delete", FOLLOW, ref.rkey) for ref in refs]
            return self.apply(writes, emit=emit) if writes else []

    def follows(self) -> set[str]:
        """The DIDs it follows now."""
        with self._world.lock:
            return {subject for _, subject in self._follow_records()}

    def delete(self, ref: Ref, *, at_us: int | None = None, emit: bool = True) -> None:
        """Delete a record of its own."""
        self.apply([Write("delete", ref.collection, ref.rkey)], at_us=at_us, emit=emit)

    def edit(self, ref: Ref, *, at_us: int | None = None, emit: bool = True, **changes: Any) -> Ref:
        """Change fields of a record of its own, by their lexicon names; None takes one away."""
        with self._world.lock:
            stored = self.state.repo.get(ref.collection, ref.rkey)
            if stored is None:
                raise ValueError(f"{ref.uri} is not there")
            merged = {**stored.value, **changes}
            record = {name: value for name, value in merged.items() if value is not None}
            write = Write("update", ref.collection, ref.rkey, record)
            return self.apply([write], at_us=at_us, emit=emit)[0]

    def put(self, collection: str, rkey: str, record: dict[str, Any], *, emit: bool = True) -> Ref:
        """Write a record of any kind at a given key, new or not."""
        with self._world.lock:
            is_there = self.state.repo.get(collection, rkey) is not None
            action: Literal["create", "update"] = "update" if is_there else "create"
            return self.apply([Write(action, collection, rkey, record)], emit=emit)[0]

    def apply(
        self, writes: Iterable[Write], *, at_us: int | None = None, emit: bool = True
    ) -> list[Ref]:
        """Several writes in one commit, in order. Deletes give a Ref without a cid."""
        return self.pds.commit(self.state, writes, at_us=at_us, emit=emit)[1]

    def deactivate(self) -> None:
        """Go away for a while."""
        self.set_status("deactivated")

    def activate(self) -> None:
        """Come back."""
        self.set_status("active")

    def takedown(self) -> None:
        """Be taken down by the host."""
        self.set_status("takendown")

    def suspend(self) -> None:
        """Be suspended by the host."""
        self.set_status("suspended")

    def delete_account(self, *, tombstone: bool = False) -> None:
        """Go for good; with `tombstone` the directory forgets the account too."""
        self.state.is_tombstoned = tombstone
        self.set_status("deleted")

    def set_status(self, status: str, *, emit: bool = True) -> None:
        """Change the status to anything an #account event may say."""
        with self._world.lock:
            if self.state.status == "deleted":
                raise ValueError(f"{self.handle} is deleted")
            self.state.status = status
            if emit:
                self.pds.emit("#account", frames.account(self.did, status, self._now(None)))

    def migrate(self, to_pds: int) -> None:
        """Move to another host, with a new key: old host deactivates, new one tells the world."""
        with self._world.lock:
            left = self.pds
            if left.index == to_pds:
                raise ValueError(f"{self.handle} lives on pds{to_pds}")
            self.state.former.pop(to_pds, None)
            self.state.former[left.index] = "deactivated"
            self.state.pds = to_pds
            self._world.rotate_key(self.state)
            now_us = self._now(None)
            self.emit_identity(self.handle)
            self.pds.emit("#account", frames.account(self.did, self.status, now_us))
            self.apply([], at_us=now_us)
            left.emit("#account", frames.account(self.did, "deactivated", now_us))

    def delete_at(self, old_pds: int) -> None:
        """Have a host that was left delete its copy and say so; the relay does not listen."""
        with self._world.lock:
            self.state.former[old_pds] = "deleted"
            body = frames.account(self.did, "deleted", self._now(None))
            self._hosts[old_pds].emit("#account", body)

    def rotate_key(self) -> None:
        """Sign with a new key from now on."""
        with self._world.lock:
            self._world.rotate_key(self.state)
            self.emit_identity(self.handle)

    def change_handle(self, handle: str) -> None:
        """Take another name."""
        with self._world.lock:
            self._world.rename(self.state, handle)
            self.emit_identity(handle)

    def emit_sync(self) -> None:
        """Tell everybody to take the repo as it stands now."""
        with self._world.lock:
            head = self.state.repo.head
            if head is None:
                raise ValueError(f"{self.handle} has no commit")
            self.pds.emit("#sync", frames.sync(head, self._now(None)))

    def emit_identity(self, handle: str | None = None) -> None:
        """Tell everybody to look the DID up again."""
        self.pds.emit("#identity", frames.identity(self.did, handle, self._now(None)))

    def _follow_records(self) -> list[tuple[Ref, str]]:
        repo = self.state.repo
        found = (repo.get(FOLLOW, rkey) for rkey in repo.rkeys(FOLLOW))
        return [(stored.ref, stored.value["subject"]) for stored in found if stored]

    def _root_of(self, parent: Ref) -> dict[str, str]:
        stored = self._world.lookup(parent.uri)
        reply = stored.value.get("reply") if stored else None
        return dict(reply["root"]) if reply else parent._asdict()

    def _now(self, at_us: int | None) -> int:
        return self.pds.clock() if at_us is None else at_us


def _did(other: Account | str) -> str:
    return other.did if isinstance(other, Account) else other


def _stamp(created_at: str | int | None, now_us: int) -> str:
    if isinstance(created_at, str):
        return created_at
    return iso(now_us if created_at is None else created_at)
