"""How many files and connections a process of ours may have open."""

import resource

# The usual 1,024 are too few: for connections to many PDSes that are kept, and for as many clients
# as a web process takes, beside its database.
MAX_FILES = 8192


def allow_many_files() -> None:
    """Raise this process's own limit, as far as it may: what it starts has it too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
