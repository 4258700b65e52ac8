"""Small charts as the paths of inline SVG, drawn here so that they need no JavaScript. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# The drawing's own units; the page stretches it to its column.
WIDTH, HEIGHT = 240.0, 48.0
# Neighbours further apart than this are not joined: nobody knows what was between them.
BREAK_US = 60_000_000

Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Chart:
    """A line over the last stretch of time. `said` tells those who do not see it what it shows."""

    path: str
    said: str


def line(
    points: Sequence[Point], from_us: int, to_us: int, say: Callable[[float], str]
) -> Chart | None:
    """A chart from nought up to the highest of `points` (time, value); None without any."""
    if not points:
        return None
    top = max(max(value for _, value in points), 1e-9)
    steps, last_us = [], None
    for at_us, value in points:
        x = WIDTH * (at_us - from_us) / (to_us - from_us)
        # A little room, so that the line is not cut off at the edges.
        y = HEIGHT - 2 - (HEIGHT - 4) * value / top
        is_joined = last_us is not None and at_us - last_us <= BREAK_US
        # A point that stands alone gets a length, or it would not be seen.
        steps.append(f"{'L' if is_joined else 'M'}{x:.1f} {y:.1f}{'' if is_joined else 'h.1'}")
        last_us = at_us
    values = [value for _, value in points]
    said = f"lowest {say(min(values))}, highest {say(max(values))}, last {say(values[-1])}"
    return Chart("".join(steps), said)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a distribution, in the drawing's units: `share` of all are up to `label`."""

    x: float
    y: float
    width: float
    height: float
    label: str
    share: float


def bars(shares: Sequence[float], labels: Sequence[str]) -> list[Bar]:
    """A distribution from shares that add up from left to right (0 to 1); the rest is `more`."""
    parts = [after - before for before, after in zip([0.0, *shares], [*shares, 1.0], strict=True)]
    top = max(*parts, 1e-9)
    width = WIDTH / len(parts)
    found = []
    for number, (part, label) in enumerate(zip(parts, [*labels, "more"], strict=True)):
        height = (HEIGHT - 4) * max(part, 0.0) / top
        found.append(
            Bar(
                round(number * width, 1),
                round(HEIGHT - height, 1),
                round(width - 2, 1),
                round(height, 1),
                label,
                max(part, 0.0),
            )
        )
    return found
