"""Where the database and its replicas are: addresses as operators write them, checked.

Every one of them may hold a password, so no message here repeats a part of what was written.
"""

import re
from urllib.parse import unquote, urlsplit

# Nobody has more; each has connections in every web process.
MAX_REPLICAS = 8
POSTGRES_PORT = 5432

# Marks where they belong. Elsewhere the driver may take a piece of the password for the host, and
# say so in the log.
_IN_PLACE = re.compile(r"[a-z]+://(?:[^@/?#]*@)?[^@/?#]*(?:/[^@/?#]*)?(?:\?[^@#]*)?")
STRAY_MARK = "has a stray mark (write / ? # @ in a password as %2F %3F %23 %40)"
_STRAY_PERCENT = re.compile(r"%(?:00|(?![0-9A-Fa-f]{2}))")
STRAY_PERCENT = "has a % that begins no code (write a % in a password as %25)"
# The whole of it. What is not of this shape the driver cannot read either, and quotes in the log,
# password and all; nor does it find a port in what stands there instead of one.
_HOST = r"(?:\[[^@/?#\[\]]+\]|[^@/?#:,\[\]]*)(?::[0-9]*)?"
_OPTION = r"[A-Za-z_]+=[^@#&=]*"
_SHAPE = re.compile(
    rf"(?!.*[\s\0])[a-z]+://(?:[^@/?#]*@)?{_HOST}(?:,{_HOST})*(?:/[^@/?#]*)?"
    rf"(?:\?(?:{_OPTION}(?:&{_OPTION})*&?)?)?",
    re.DOTALL,
)
SHAPE = (
    "must be like postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE (write a space as %20,"
    " & and = in a value as %26 %3D, and an IPv6 address in brackets)"
)


def database_url(text: str) -> str:
    """An SQLite or PostgreSQL URL. Raises ValueError for anything else."""
    scheme, mark, _ = text.partition("://")
    if not mark or scheme not in ("sqlite", "postgresql", "postgres"):
        raise ValueError("must start with sqlite:/// or postgresql://")
    if scheme == "sqlite" and not (text.startswith("sqlite:///") and len(text) > len("sqlite:///")):
        raise ValueError("an SQLite URL is sqlite:///FILE (relative) or sqlite:////FILE (absolute)")
    if scheme != "sqlite" and (problem := _unreadable(text)):
        raise ValueError(problem)
    return text


def replica_urls(text: str) -> tuple[str, ...]:
    """Comma-separated PostgreSQL URLs, each of one server. Raises ValueError with all problems."""
    urls = tuple(url.strip() for url in text.split(",") if url.strip())
    problems = [f"number {n} {problem}" for n, problem in _problems(urls)]
    if len(urls) > MAX_REPLICAS:
        problems.append(f"there are {len(urls)}, and at most {MAX_REPLICAS} can be used")
    if not urls or problems:
        raise ValueError("; ".join(problems) or "must name at least one replica")
    return urls


def replica_problems(primary: str, replicas: tuple[str, ...]) -> list[str]:
    """What is wrong with these replicas of this database, setting by setting."""
    if not replicas:
        return []
    if primary.startswith("sqlite:"):
        return [
            "DATABASE_REPLICA_URLS is for PostgreSQL, and DATABASE_URL names an SQLite file:"
            " unset one of them"
        ]
    return [
        f"DATABASE_REPLICA_URLS: number {n} is the server of DATABASE_URL itself"
        for n, url in enumerate(replicas, start=1)
        if server_name(url) == server_name(primary)
    ]


def server_name(url: str) -> str | None:
    """HOST:PORT of a PostgreSQL URL; None where it does not name one server in that place."""
    try:
        parts = urlsplit(url)
        port = parts.port or POSTGRES_PORT
    except ValueError:
        return None
    if not parts.hostname:
        return None
    host = unquote(parts.hostname)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _problems(urls: tuple[str, ...]) -> list[tuple[int, str]]:
    found, seen = [], set[str]()
    for n, url in enumerate(urls, start=1):
        name = server_name(url)
        if not url.startswith(("postgresql://", "postgres://")):
            found.append((n, "must start with postgresql:// (write a comma in a password as %2C)"))
        elif problem := _unreadable(url):
            found.append((n, problem))
        elif name is None:
            found.append((n, "must name one server, as in postgresql://USER:PASSWORD@HOST/NAME"))
        elif name in seen:
            found.append((n, "names a server that stands there before"))
        seen.add(name or "")
    return found


def _unreadable(url: str) -> str | None:
    """Why the driver could not read a PostgreSQL URL, or would read it otherwise than meant."""
    if not _IN_PLACE.fullmatch(url):
        return STRAY_MARK
    if _STRAY_PERCENT.search(url):
        return STRAY_PERCENT
    return None if _SHAPE.fullmatch(url) else SHAPE
