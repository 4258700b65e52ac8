"""What the leader counted of its sources in this lead: read from the metrics that it left."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from server.core.metrics import MISSING

# With fewer records compared, the loss of one author's would show.
LEAST_COMPARED = 2_000
# In steps of half a percent, for the same reason.
STEPS = 200


@dataclass(slots=True)
class Stream:
    """`compared`: records that another source beside it told as well, or that only one of them did.

    `missing` are those that it should have told, and did not.
    """

    is_read: bool = False
    breaks: int = 0
    compared: int = 0
    missing: int = 0

    @property
    def share_lost(self) -> float | None:
        """The share that it lost, rounded down; None while that is not known well enough."""
        if self.compared < LEAST_COMPARED:
            return None
        return self.missing * STEPS // self.compared / STEPS


def streams_of(text: str) -> tuple[dict[str, Stream], int]:
    """Each source, and how often another one was taken instead. `text`: the leader's metrics."""
    found: dict[str, Stream] = defaultdict(Stream)
    changes = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            count = int(sample.value)
            match sample.name:
                case "gapless_source_connected":
                    found[sample.labels["source"]].is_read = count == 1
                case "gapless_stream_breaks_total":
                    found[sample.labels["source"]].breaks += count
                case "gapless_hedged_events_total":
                    stream = found[sample.labels["source"]]
                    stream.compared += count
                    stream.missing += count if sample.labels["outcome"] == MISSING else 0
                case "gapless_stream_source_changes_total":
                    changes = count
    return dict(found), changes
