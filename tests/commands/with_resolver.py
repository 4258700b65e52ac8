"""`python -m server`, which asks the DNS server on RESOLVER_PORT instead of the system's."""

import os

from server import outgoing
from server.__main__ import console
from server.identity.txt_records import ResolverAddress

RESOLVER_PORT = "TEST_RESOLVER_PORT"

if __name__ == "__main__":
    ours = ResolverAddress("127.0.0.1", int(os.environ[RESOLVER_PORT]))
    outgoing.system_resolvers = lambda: [ours]
    console()
