"""How times, durations and sizes are said to people. Pure."""

from datetime import UTC, datetime


def moment(us: int | None) -> str:
    """A time, to the second, in UTC."""
    if us is None:
        return "never"
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(from_ms: int, to_ms: int) -> str:
    """A stretch of time; gaps that begin nobody knows when have 0 there."""
    if from_ms == to_ms:
        return f"at {moment(from_ms * 1000)}"
    begin = moment(from_ms * 1000) if from_ms else "the beginning"
    return f"from {begin} to {moment(to_ms * 1000)}"


def duration(seconds: float) -> str:
    """The largest unit that fits: 0.4 s, 12 s, 5 min, 3 h, 2 d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"


def size(count: int) -> str:
    """Bytes in the unit that reads best."""
    for step, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"
