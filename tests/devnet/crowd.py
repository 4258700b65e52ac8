"""A seeded crowd that writes at the PDS. Its deeds depend on the seed alone, so a seed replays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from tests.devnet.client import Reply, post_record, timestamp
from tests.devnet.deeds import Deed, Thing, editing, following, removing, reposting, writing
from tests.devnet.pictures import with_picture
from tests.devnet.world import Follow, Person, Post, Repost, World

MAX_BATCH = 12

# How often each deed is chosen, in no unit. The single ones need a request of their own.
BATCHED = {
    "post": 22,
    "reply": 26,
    "quote": 6,
    "picture": 5,
    "repost": 15,
    "unrepost": 5,
    "edit": 6,
    "delete": 6,
    "follow": 6,
    "unfollow": 5,
    "follow_twice": 2,
    "repost_twice": 2,
    "backdate": 4,
    "future_date": 3,
}
SINGLE = {"follow_anew": 1, "repost_anew": 1, "sleep_or_wake": 2, "delete_account": 1}
SINGLE_SHARE = 0.12

# Whoever deletes their account reads no feed any more: enough viewers must be left.
MAX_GONE, MIN_VIEWERS = 2, 5

# The service backfills seven days. What is older it need not know.
OLDEST_S, FURTHEST_S = -5 * 86_400.0, 3_600.0


class Crowd:
    """Everybody in the world, driven by one seed.

    `future_dates` is off for what will be backfilled: where such a post stands is then our guess.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = Random(seed)  # noqa: S311
        self.future_dates = True
        self._number = 0

    def act(self, deeds: int, between: Callable[[], None] = lambda: None) -> None:
        """About so many deeds, in batches of one person each; `between` is called after each."""
        until = self.world.done.total() + deeds
        while self.world.done.total() < until:
            person = self.rng.choice([person for person in self.world.people if person.active])
            if self.rng.random() < SINGLE_SHARE:
                kind = self.rng.choices(list(SINGLE), list(SINGLE.values()))[0]
                getattr(self, f"_{kind}")(person)
            else:
                self._act_in_a_batch(person)
            between()

    def wake_all(self) -> None:
        for person in self.world.people:
            if not person.active and not person.is_gone:
                self._switch(person)

    def _act_in_a_batch(self, person: Person) -> None:
        count = self.rng.randint(1, MAX_BATCH)
        kinds = self.rng.choices(list(BATCHED), list(BATCHED.values()), k=count)
        touched: set[int] = set()  # a record is touched once: the world learns at the end
        deeds = []
        for kind in kinds:
            deed = getattr(self, f"_{kind}")(person, touched)
            if deed is not None:
                self.world.done[kind] += 1
                deeds.append(deed)
        outcomes = person.account.apply([deed.write for deed in deeds])
        for deed, ref in zip(deeds, outcomes, strict=True):
            deed.learn(ref)

    def _sleep_or_wake(self, person: Person) -> None:
        if person.is_stranger:
            return
        sleeping = [other for other in self.world.people if not (other.active or other.is_gone)]
        # Never more than two at a time: the sleeping read no feeds, so nobody judges them.
        wake = sleeping and (len(sleeping) == 2 or self.rng.random() < 0.5)
        self._switch(self.rng.choice(sleeping) if wake else person)

    def _delete_account(self, person: Person) -> None:
        # Strangers are not followed, so what becomes of their old posts is not noticed.
        viewers = [one for one in self.world.people if not (one.is_stranger or one.is_gone)]
        gone = sum(one.is_gone for one in self.world.people)
        if person.is_stranger or gone == MAX_GONE or len(viewers) <= MIN_VIEWERS:
            return
        person.account.network.delete_account(person.account)
        person.active, person.is_gone = False, True
        self.world.done["delete_account"] += 1

    def _switch(self, person: Person) -> None:
        if person.active:
            person.account.deactivate()
        else:
            person.account.activate()
        person.active = not person.active
        self.world.done["activate" if person.active else "deactivate"] += 1

    def _follow_anew(self, person: Person) -> None:
        # As apps do it: the PDS deletes an older follow of the same account in the same commit.
        other = self.rng.choice([other for other in self.world.people if other is not person])
        ref = person.account.follow(other.account)
        self.world.forget_follows(person, other)
        self.world.follows.append(Follow(person, other, ref))
        self.world.done["follow_anew"] += 1

    def _repost_anew(self, person: Person) -> None:
        post = self._choose(self.world.posts)
        if post is not None:
            ref = person.account.repost(post.ref)
            self.world.forget_reposts(person, post)
            self.world.note_repost(Repost(person, post, ref))
            self.world.done["repost_anew"] += 1

    def _post(self, person: Person, _touched: set[int]) -> Deed:
        return writing(self.world, Post(person, post_record(self._text("post"))))

    def _reply(self, person: Person, _touched: set[int]) -> Deed | None:
        # Now and then to something deleted: such a reply is an orphan from the start.
        parent = self._choose(self.world.posts, alive=self.rng.random() > 0.04)
        if parent is None:
            return None
        root = parent.root or parent
        record = post_record(self._text("reply"), reply_to=Reply(root.ref, parent.ref))
        return writing(self.world, Post(person, record, root=root))

    def _quote(self, person: Person, _touched: set[int]) -> Deed | None:
        quoted = self._choose(self.world.posts)
        if quoted is None:
            return None
        return writing(self.world, Post(person, post_record(self._text("quote"), quote=quoted.ref)))

    def _picture(self, person: Person, _touched: set[int]) -> Deed:
        # Also beside a quote, and in replies.
        quoted = self._choose(self.world.posts) if self.rng.random() < 0.3 else None
        parent = self._choose(self.world.posts) if self.rng.random() < 0.3 else None
        root = parent and (parent.root or parent)
        record = post_record(
            self._text("picture"),
            quote=quoted and quoted.ref,
            reply_to=parent and root and Reply(root.ref, parent.ref),
        )
        record = with_picture(person.account, record)
        return writing(self.world, Post(person, record, root=root))

    def _backdate(self, person: Person, _touched: set[int]) -> Deed | None:
        created_at = timestamp(self.rng.uniform(OLDEST_S, -1))
        reposted = self._choose(self.world.posts) if self.rng.random() < 0.3 else None
        if reposted is not None:
            return reposting(self.world, person, reposted, created_at)
        return writing(
            self.world, Post(person, post_record(self._text("old"), created_at=created_at))
        )

    def _future_date(self, person: Person, _touched: set[int]) -> Deed | None:
        created_at = timestamp(self.rng.uniform(60, FURTHEST_S))
        if person.is_stranger or not self.future_dates:
            return None
        record = post_record(self._text("future"), created_at=created_at)
        return writing(self.world, Post(person, record, future=True))

    def _repost(self, person: Person, touched: set[int]) -> Deed | None:
        mine = {id(old.subject) for old in self.world.reposts if old.alive and old.author is person}
        post = self._choose(self.world.posts, besides=mine | touched)
        if post is None:
            return None
        touched.add(id(post))
        return reposting(self.world, person, post)

    def _repost_twice(self, person: Person, touched: set[int]) -> Deed | None:
        old = self._choose(self.world.reposts, author=person)
        # Two in one batch could be equal to the millisecond, see `_text`.
        if old is None or not old.subject.alive or id(old.subject) in touched:
            return None
        touched.add(id(old.subject))
        return reposting(self.world, person, old.subject)

    def _follow(self, person: Person, touched: set[int]) -> Deed | None:
        followed = self.world.followed(person)
        strangers = [
            other
            for other in self.world.people
            if other.did not in followed and id(other) not in touched
        ]
        # Following oneself is possible but no app offers it, so it stays rare.
        if not strangers or (strangers == [person] and self.rng.random() < 0.9):
            return None
        other = self.rng.choice(strangers)
        touched.add(id(other))
        return following(self.world, person, other)

    def _follow_twice(self, person: Person, touched: set[int]) -> Deed | None:
        # Never a third time: of three follow records of one account the AppView forgets the third
        # when the first and then the second is deleted, and its timeline loses the account.
        # Nor do strangers: an AppView names one record of each, and we hear no more of the others.
        if person.is_stranger:
            return None
        subjects = Counter(
            follow.subject
            for follow in self.world.follows
            if follow.alive and follow.author is person
        )
        once = [
            subject
            for subject, count in subjects.items()
            if count == 1 and id(subject) not in touched
        ]
        if not once:
            return None
        other = self.rng.choice(once)
        touched.add(id(other))
        return following(self.world, person, other)

    def _edit(self, person: Person, touched: set[int]) -> Deed | None:
        # The AppView moves a future-dated post to the time of its edit; we keep its first place.
        future = {id(post) for post in self.world.posts if post.future}
        post = self._choose(self.world.posts, author=person, besides=touched | future)
        if post is None:
            return None
        touched.add(id(post))
        return editing(self.world, post, self._text("edited"))

    def _delete(self, person: Person, touched: set[int]) -> Deed | None:
        if person.is_stranger:
            return None
        return self._remove(self._choose(self.world.posts, person, besides=touched), touched)

    def _unrepost(self, person: Person, touched: set[int]) -> Deed | None:
        return self._remove(self._choose(self.world.reposts, person, besides=touched), touched)

    def _unfollow(self, person: Person, touched: set[int]) -> Deed | None:
        return self._remove(self._choose(self.world.follows, person, besides=touched), touched)

    def _remove(self, thing: Post | Repost | Follow | None, touched: set[int]) -> Deed | None:
        if thing is None:
            return None
        touched.add(id(thing))
        return removing(thing)

    def _choose(
        self,
        things: list[Thing],
        author: Person | None = None,
        *,
        alive: bool = True,
        besides: set[int] | frozenset[int] = frozenset(),
    ) -> Thing | None:
        candidates = [
            thing
            for thing in things
            if thing.alive is alive
            and id(thing) not in besides
            and (author is None or thing.author is author)
        ]
        # Half of the time among the newest: threads grow deep, and live deletes meet new posts.
        if self.rng.random() < 0.5:
            candidates = candidates[-20:]
        return self.rng.choice(candidates) if candidates else None

    def _text(self, kind: str) -> str:
        # Numbered, so that no two records are alike: equal ones of one millisecond share a CID,
        # and the official cursor can lose one of those.
        self._number += 1
        return f"{kind} {self._number}"
