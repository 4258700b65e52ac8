"""The name of the request that a thread is answering: in its log lines, and in the answer."""

import random
import re
from contextvars import ContextVar

# Empty outside a request.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# What a proxy in front of us may call a request. Anything else could forge log lines.
_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def choose_id(proposed: str | None) -> str:
    """The caller's name for a request if it is a plain one, else a new one."""
    if proposed is not None and _FORM.fullmatch(proposed):
        return proposed
    # A name, and no secret: to ask the kernel for it would give the interpreter away.
    return f"{random.getrandbits(64):016x}"
