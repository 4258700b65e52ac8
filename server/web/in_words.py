"""How things stand, in sentences that a reader of a feed understands. Pure."""

from dataclasses import dataclass

from server.core.wording import duration, moment
from server.storage import ledger
from server.web.standing import Standing

# What a reader does not notice, and what is worth a word of its own. Seconds.
FRESH_LAG_S, LATE_LAG_S = 10.0, 120.0


@dataclass(frozen=True, slots=True)
class Words:
    """`mood`: "good", "late" or "down"; a headline, and sentences below it."""

    mood: str
    headline: str
    sentences: list[str]


# The words of ledger.WHY.
REASONS = {
    "untracked": "not read any more",
    "inactive": "away: deactivated or taken down, so not shown anywhere",
    "failing": "their own server does not answer; tried again",
    "gap": "something was missed; being fetched again",
    "newest page": "newest posts there, older ones coming",
    "pending": "not fetched yet",
    "follows cut": "complete, but follows more accounts than we keep",
    "horizon": "complete, but only since a later time",
}

NO_DATABASE = Words(
    "down",
    "We cannot tell right now",
    [
        "Our database does not answer, or has only just been asked. Feeds that are away come back"
        " by themselves when it does."
    ],
)


def summary(now: Standing) -> Words:
    """What a reader wants to know first: whether it is fresh, and whether it is complete."""
    mood, headline, freshness = _freshness(now)
    return Words(mood, headline, [freshness, *_completeness(now)])


def number(count: int) -> str:
    """A count as `standing.about` made it."""
    return f"{count:,}" if count else "under 10"


def _freshness(now: Standing) -> tuple[str, str, str]:
    if now.problem is not None or now.lag_s is None:
        return (
            "down",
            "Feeds are standing still",
            "We are not reading the network at the moment. Feeds show what they have, and what is"
            " posted meanwhile is added afterwards, in its place.",
        )
    if now.lag_s > LATE_LAG_S:
        return (
            "late",
            "Feeds are running late",
            f"We are {duration(now.lag_s)} behind and catching up. Nothing is lost by that.",
        )
    if now.lag_s > FRESH_LAG_S:
        return ("good", "Feeds are up to date", f"We are {duration(now.lag_s)} behind.")
    return ("good", "Feeds are up to date", "New posts stand in them within seconds.")


def _completeness(now: Standing) -> list[str]:
    told = []
    if not now.about_incomplete.keys() - {ledger.AWAY}:
        told.append(
            "The accounts that our readers follow are complete, but for a handful at most"
            f"{_since(now)}."
        )
    else:
        told.append(
            f"About {now.share_complete:.0%} of the accounts that our readers follow are"
            f" complete{_since(now)}. The others are being fetched, or cannot be at the moment."
        )
    if now.gaps_of_everybody:
        count = len(now.gaps_of_everybody)
        told.append(
            f"{'A stretch' if count == 1 else f'{count} stretches'} of time may be incomplete:"
            " we know which, and are fetching it again from everybody's own servers."
        )
    return told


def _since(now: Standing) -> str:
    return "" if now.since_us is None else f", from {moment(now.since_us)[:10]} on"
