"""How often Python looks for objects that only refer to each other."""

import gc

# Objects more than before at which it looks through the young ones, and how many such looks there
# are to one at the middle-aged, and of these to one at all. Python's own 700, 10, 10 are for
# programs that make such cycles. A batch of the stream is tens of thousands of objects that are
# all gone after it, and what a web process remembers is hundreds of thousands that are looked
# through for nothing each time a quarter of them is new; none of them refers back.
_YOUNG, _MIDDLE_AGED, _OLD = 50_000, 10, 100


def collect_less() -> None:
    """Leave what is here now alone, and look through what comes later more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE_AGED, _OLD)
