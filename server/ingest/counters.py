"""What happened on each source, counted: for the log, and for whoever shows it elsewhere."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class SourceCounters:
    """Of one source since this process began to lead, by the one thread that reads.

    `broken` counts connections that ended or never came, by the kind of reason (breaks.py).
    `told`, `missing` and `late_ms` are known only when sources are read together: how many records
    of tracked authors it told, how many only others told, and how much later than the first to tell
    it was, summed up over what it told.
    """

    connected_us: int | None = None
    connections: int = 0
    failures_in_a_row: int = 0
    messages: int = 0
    bad_messages: int = 0
    gaps: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    told: int = 0
    missing: int = 0
    late_ms: int = 0
