"""Records as people write them, in the proportions of the live network."""

import random
from typing import Any

from benchmarks.rig.population import Account
from server.core.syntax import FOLLOW, POST, REPOST
from simnet.clock import iso
from simnet.dag_cbor import Cid
from simnet.tid import tid_at

Fields = dict[str, Any]

# fmt: off
_WORDS = [
    "morning", "coffee", "train", "harbour", "garden", "window", "river", "mountain", "paper",
    "lamp", "story", "music", "rain", "sun", "winter", "market", "bread", "letter", "friend",
    "night", "quiet", "first", "again", "maybe", "never", "always", "because", "東京", "猫", "寒い",
    "写真", "おはよう", "obrigado", "também", "coração", "über", "schön", "día",
    "mañana", "🌸", "🎉",
    "🐈",
]
# fmt: on
# What people's clients write beside the usual form, some of it refused by the lexicon.
_ODD_TIMES = ("0001-01-01T00:00:00Z", "2099-12-31T23:59:59.999Z", "2026-07-04", "yesterday", "")


class Author:
    """Makes up records of any collection, out of one seeded source."""

    def __init__(self, rng: random.Random, accounts: list[Account]) -> None:
        self.rng = rng
        self.accounts = accounts
        self.recent: list[tuple[str, str]] = []

    def record(self, collection: str, now_us: int) -> Fields:
        """The fields of a record but for its type."""
        created = {"createdAt": self._created_at(now_us)}
        if collection == POST:
            return {**created, **self._post(now_us)}
        if collection == FOLLOW:
            return {**created, "subject": self.rng.choice(self.accounts).did}
        if collection in (REPOST, "app.bsky.feed.like"):
            via = {"via": self._ref(REPOST, now_us)} if self.rng.random() < 0.2 else {}
            return {**created, **via, "subject": self._post_ref(now_us)}
        return {**created, "name": self._text(30), "number": -5, "nothing": None, "list": [1, 2.5]}

    def has_written(self, uri: str, cid: str) -> None:
        """A post that others may answer, like and repost."""
        self.recent.append((uri, cid))
        del self.recent[:-2000]

    def _post(self, now_us: int) -> Fields:
        post: Fields = {"text": self._text(self.rng.randrange(5, 290)), "langs": ["en"]}
        if self.rng.random() < 0.52:
            parent = self._post_ref(now_us)
            is_first = self.rng.random() < 0.4
            post["reply"] = {
                "parent": parent,
                "root": parent if is_first else self._post_ref(now_us),
            }
        return {**post, **self._embed(now_us)}

    def _embed(self, now_us: int) -> Fields:
        dice = self.rng.random()
        if dice < 0.17:
            image = {"alt": self._text(60), "image": self._blob()}
            return {"embed": {"$type": "app.bsky.embed.images", "images": [image]}}
        if dice < 0.27:
            card = {"uri": "https://example.com/a", "title": self._text(50), "thumb": self._blob()}
            return {"embed": {"$type": "app.bsky.embed.external", "external": card}}
        if dice < 0.33:
            quoted = self._post_ref(now_us)
            return {"embed": {"$type": "app.bsky.embed.record", "record": quoted}}
        if dice < 0.35:
            return {"embed": {"$type": "app.bsky.embed.video", "video": self._blob()}}
        return {}

    def _post_ref(self, now_us: int) -> Fields:
        if self.recent and self.rng.random() < 0.5:
            uri, cid = self.rng.choice(self.recent)
            return {"uri": uri, "cid": cid}
        return self._ref(POST, now_us)

    def _ref(self, collection: str, now_us: int) -> Fields:
        rkey = tid_at(now_us - self.rng.randrange(86_400_000_000), self.rng.getrandbits(10))
        did = self.rng.choice(self.accounts).did
        return {"uri": f"at://{did}/{collection}/{rkey}", "cid": self._cid(0x71).text}

    def _blob(self) -> Fields:
        link = {"$link": self._cid(0x55).text}
        return {"$type": "blob", "ref": link, "mimeType": "image/jpeg", "size": 123_456}

    def _cid(self, codec: int) -> Cid:
        return Cid(bytes((1, codec, 0x12, 0x20)) + self.rng.randbytes(32))

    def _text(self, length: int) -> str:
        return " ".join(self.rng.choices(_WORDS, k=length // 6 + 1))[:length]

    def _created_at(self, now_us: int) -> str:
        dice = self.rng.random()
        if dice < 0.985:
            return iso(now_us + self.rng.randrange(-2_500_000, 1_000_000))
        if dice < 0.992:
            return iso(now_us - self.rng.randrange(10**12, 10**14))
        if dice < 0.996:
            return iso(now_us)[:-1] + "417+09:00"
        return self.rng.choice(_ODD_TIMES)
