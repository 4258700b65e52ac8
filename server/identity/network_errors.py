"""What went wrong with a request, in words of ours.

The errors' own messages are not shown: what is in them is the system's and the libraries' affair.
"""

import socket
import ssl

from server.identity.connection import EndsEarly
from server.identity.dial import PrivateAddress

# The first line that fits is taken, so the narrow kinds stand before the wide ones.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (PrivateAddress, "its name leads to an address that is not public"),
    (socket.gaierror, "its name cannot be resolved"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not valid"),
    (ssl.SSLError, "TLS failed"),
    (TimeoutError, "no complete answer in time"),
    (ConnectionRefusedError, "no connection"),
    (ConnectionError, "it hung up"),
    (OSError, "no connection"),
    (EndsEarly, "the answer ends early"),
)


def describe(error: Exception) -> str:
    """What happened, in a few words."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    return "the answer is not proper HTTP"
