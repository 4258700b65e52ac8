"""Life on the network: a seeded crowd that posts, replies, reposts, follows and changes its mind.

The same seed on the same clock does the same things. Prints nothing; `on_happening` hears all.
"""

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from simnet.account import Account
from simnet.cast import CAST, QUOTES, REPLIES, SECOND_THOUGHTS, SENTENCES
from simnet.network import Network
from simnet.repo import Ref

# What happens, and how often of a hundred.
MIX = {
    "post": 42,
    "reply": 18,
    "repost": 13,
    "quote": 6,
    "like": 7,
    "delete": 4,
    "edit": 3,
    "follow": 4,
    "unfollow": 3,
}
# People answer and repost what was written lately.
_RECENT = 30
# The viewer changes friends more often than the others, since that is what a demo is to show.
_VIEWER_SHARE = 0.5
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing somebody did. `ref` is the record it made, changed or deleted."""

    kind: str
    who: Account
    ref: Ref
    text: str = ""
    whom: Account | None = None


class Traffic:
    """A crowd with a memory of what it said. The first of `people` is the viewer of the demo."""

    def __init__(self, network: Network, seed: int, count: int = len(CAST)) -> None:
        self.network = network
        self.names: dict[str, str] = {}
        self.people: list[Account] = []
        self.on_happening: Callable[[Happening], None] = lambda _: None
        self._rng = random.Random(seed)
        self._subjects: dict[str, tuple[str, ...]] = {}
        self._unsaid: dict[str, list[str]] = {}
        self._posts: deque[tuple[Account, Ref]] = deque(maxlen=_RECENT)
        self._reposts: deque[tuple[Account, Ref]] = deque(maxlen=_RECENT)
        self._create_people(count)

    @property
    def viewer(self) -> Account:
        """The one who follows most of the others."""
        return self.people[0]

    def write_history(self, count: int, days: float) -> None:
        """Give the crowd a past that no event tells of: posts, replies and reposts."""
        now_us = self.network.clock()
        span_us = round(days * _DAY_US)
        times = sorted(now_us - self._rng.randrange(60_000_000, span_us) for _ in range(count))
        for at_us in times:
            who = self._rng.choice(self.people)
            kind = self._rng.choices(("post", "reply", "repost"), (70, 18, 12))[0]
            if kind == "post" or not self._posts:
                self._remember(who, who.post(self._sentence(who), at_us=at_us, emit=False))
                continue
            _, subject = self._rng.choice(self._posts)
            if kind == "reply":
                text = self._say("reply", REPLIES)
                ref = who.post(text, reply_to=subject, at_us=at_us, emit=False)
                self._remember(who, ref)
            else:
                self._reposts.append((who, who.repost(subject, at_us=at_us, emit=False)))

    def step(self) -> Happening:
        """Let one thing happen. What is impossible just now becomes a post."""
        kind = self._rng.choices(tuple(MIX), tuple(MIX.values()))[0]
        who = self._rng.choice(self.people)
        if kind in ("follow", "unfollow") and self._rng.random() < _VIEWER_SHARE:
            who = self.viewer
        happening = getattr(self, f"_{kind}")(who) or self._post(who)
        self.on_happening(happening)
        return happening

    def run(self, rate: float, stop: threading.Event) -> None:
        """Step about `rate` times a second, unevenly as people are, until told to stop."""
        while not stop.wait(self._rng.expovariate(rate)):
            self.step()

    def start(self, rate: float, stop: threading.Event) -> threading.Thread:
        """Run in a thread of its own, which the caller joins."""
        thread = threading.Thread(
            target=self.run, args=(rate, stop), name="simnet-traffic", daemon=True
        )
        thread.start()
        return thread

    def _create_people(self, count: int) -> None:
        hosts = len(self.network.pds)
        for number in range(count):
            short, name, subjects = CAST[number % len(CAST)]
            again = number // len(CAST)
            handle = f"{short}{again + 1}" if again else short
            person = self.network.create_account(handle, pds=number % hosts)
            self.people.append(person)
            self.names[person.handle] = f"{name} {again + 1}" if again else name
            self._subjects[person.did] = subjects
        for person in self.people:
            others = [other for other in self.people if other is not person]
            share = 0.75 if person is self.viewer else 0.4
            for other in others:
                if self._rng.random() < share:
                    person.follow(other, emit=False)

    def _post(self, who: Account) -> Happening:
        text = self._sentence(who)
        return Happening("post", who, self._remember(who, who.post(text)), text)

    def _reply(self, who: Account) -> Happening | None:
        if not self._posts:
            return None
        whom, parent = self._rng.choice(self._posts)
        text = self._say("reply", REPLIES)
        ref = self._remember(who, who.post(text, reply_to=parent))
        return Happening("reply", who, ref, text, whom)

    def _quote(self, who: Account) -> Happening | None:
        if not self._posts:
            return None
        whom, subject = self._rng.choice(self._posts)
        text = self._say("quote", QUOTES)
        ref = self._remember(who, who.post(text, quote=subject))
        return Happening("quote", who, ref, text, whom)

    def _repost(self, who: Account) -> Happening | None:
        others = [(whom, ref) for whom, ref in self._posts if whom is not who]
        if not others:
            return None
        whom, subject = self._rng.choice(others)
        ref = who.repost(subject)
        self._reposts.append((who, ref))
        return Happening("repost", who, ref, "", whom)

    def _like(self, who: Account) -> Happening | None:
        if not self._posts:
            return None
        whom, subject = self._rng.choice(self._posts)
        return Happening("like", who, who.like(subject), "", whom)

    def _delete(self, _: Account) -> Happening | None:
        pile = self._reposts if self._reposts and self._rng.random() < 0.3 else self._posts
        if not pile:
            return None
        who, ref = chosen = self._rng.choice(pile)
        pile.remove(chosen)
        text = self._text_of(ref)
        who.delete(ref)
        return Happening("delete", who, ref, text)

    def _edit(self, _: Account) -> Happening | None:
        if not self._posts:
            return None
        who, ref = chosen = self._rng.choice(self._posts)
        text = self._text_of(ref) + self._rng.choice(SECOND_THOUGHTS)
        changed = who.edit(ref, text=text)
        self._posts[self._posts.index(chosen)] = (who, changed)
        return Happening("edit", who, changed, text)

    def _follow(self, who: Account) -> Happening | None:
        known = who.follows() | {who.did}
        strangers = [other for other in self.people if other.did not in known]
        if not strangers:
            return None
        whom = self._rng.choice(strangers)
        return Happening("follow", who, who.follow(whom), "", whom)

    def _unfollow(self, who: Account) -> Happening | None:
        known = who.follows()
        friends = [other for other in self.people if other.did in known]
        # Nobody in this crowd ends up alone.
        if len(friends) < 4:
            return None
        whom = self._rng.choice(friends)
        return Happening("unfollow", who, who.unfollow(whom)[0], "", whom)

    def _remember(self, who: Account, ref: Ref) -> Ref:
        self._posts.append((who, ref))
        return ref

    def _text_of(self, ref: Ref) -> str:
        stored = self.network.world.lookup(ref.uri)
        return str(stored.value.get("text", "")) if stored else ""

    def _sentence(self, who: Account) -> str:
        subject = self._rng.choice(self._subjects[who.did])
        return self._say(subject, SENTENCES[subject])

    def _say(self, pile: str, sentences: tuple[str, ...]) -> str:
        """A sentence that has not been used since the pile was last shuffled."""
        if not self._unsaid.get(pile):
            self._unsaid[pile] = self._rng.sample(sentences, len(sentences))
        return self._unsaid[pile].pop()
