"""What went wrong with a request, in words of ours. Reads the errors of libraries, raises none.

Their own messages are not shown: they hold the whole URL, and often the name of a Python object.
"""

import socket
import ssl

import urllib3

from server.identity.dial import PrivateAddress

# Wrapped errors looked at for one failure; the libraries nest five or so.
MAX_CAUSES = 20

# The first line that fits is taken, so the narrow kinds stand before the wide ones.
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (PrivateAddress, "its name leads to an address that is not public"),
    (socket.gaierror, "its name cannot be resolved"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not valid"),
    (ssl.SSLError, "TLS failed"),
    (TimeoutError, "no complete answer in time"),
    (urllib3.exceptions.NewConnectionError, "no connection"),
    (urllib3.exceptions.TimeoutError, "no complete answer in time"),
    (ConnectionError, "it hung up"),
    (urllib3.exceptions.IncompleteRead, "the answer ends early"),
)


def describe(error: BaseException) -> str:
    """What happened, in a few words."""
    causes = _causes(error)
    for kind, words in _WORDS:
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return "the answer is not proper HTTP"


def was_hung_up(error: BaseException) -> bool:
    """Whether the peer closed a connection that had been established."""
    return describe(error) == "it hung up"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and those inside it: some libraries chain, some keep the first one as argument.

    Not `__context__`: that may be something which our caller is handling right now.
    """
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < MAX_CAUSES:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            waiting += [cause.__cause__, getattr(cause, "reason", None), *cause.args]
    return found
