"""Where the database and its replicas are: what is understood, and what is refused unquoted."""

import pytest

from server.core.config import load_config
from server.core.database_urls import server_name
from server.core.errors import ConfigError


def problems(**settings):
    with pytest.raises(ConfigError) as refused:
        load_config(settings)
    return refused.value.problems


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///data/x.db",
        "sqlite:////var/x.db",
        "postgresql://u:p@h/d",
        "postgres://u:p@h:1/d",
        "postgresql://u:p%40s@h1:1,h2:2/d?sslmode=require&host=/run/postgresql",
        "postgresql:///d",
        "postgresql://u:p%25%26[:;=,+\"'\\@h/d",
        "postgresql://u@[fe80::1%25eth0]:5433/d?sslmode=disable&password=a/b%3D?&",
        "postgresql://u:p@one:5433,[::1],three:/d?target_session_attrs=read-write",
        "postgres://%2Fvar%2Frun/d?options=-c%20jit%3Doff",
    ],
)
def test_databases_that_we_know(url):
    assert load_config({"DATABASE_URL": url}).database_url == url


def test_replicas_are_a_list_of_servers():
    config = load_config(
        {
            "DATABASE_URL": "postgresql://u:p@primary/d",
            "DATABASE_REPLICA_URLS": "postgresql://u:p@one/d, postgres://u:p@[::1]:5433/d,",
        }
    )
    assert config.replica_urls == ("postgresql://u:p@one/d", "postgres://u:p@[::1]:5433/d")
    assert [server_name(url) for url in config.replica_urls] == ["one:5432", "[::1]:5433"]
    assert load_config({"DATABASE_URL": "postgresql://u:p@primary/d"}).replica_urls == ()


def test_everything_that_is_wrong_with_replicas_is_said_at_once_and_no_password():
    urls = [
        "postgresql://u:secret@one/d",
        "mysql://u:secret@two/d",
        "postgresql://u:secret@ONE:5432/other",
        "postgresql://u:secret@a:1,b:2/d",
        "postgresql:///secret",
        "postgresql://u:sec%ret@three/d",
        *(f"postgresql://u:secret@h{n}/d" for n in range(4)),
    ]
    (problem,) = problems(
        DATABASE_URL="postgresql://u:secret@primary/d", DATABASE_REPLICA_URLS=",".join(urls)
    )
    assert "secret" not in problem
    assert "sec%ret" not in problem
    for words in (
        "number 2 must start with postgresql://",
        "number 3 names a server that stands there before",
        # The comma cuts the fourth in two.
        "number 5 must start with postgresql://",
        "number 6 must name one server",
        "number 7 has a %",
        "there are 11, and at most 8",
    ):
        assert words in problem, problem


def test_a_replica_is_neither_the_primary_nor_of_an_sqlite_file():
    replica = {"DATABASE_REPLICA_URLS": "postgresql://v:secret@H:5432/other"}
    (problem,) = problems(DATABASE_URL="postgresql://u:secret@h/d", **replica)
    assert problem == "DATABASE_REPLICA_URLS: number 1 is the server of DATABASE_URL itself"
    found = problems(DATABASE_URL="sqlite:///x.db", PORT="x", **replica)
    assert len(found) == 2
    assert "is for PostgreSQL" in found[1]


@pytest.mark.parametrize("password", ["se/cret", "12/cret", "12?cret", "12#cret", "se@cret", "a@b"])
def test_a_password_with_a_mark_is_not_taken_for_a_host(password):
    replica = {"DATABASE_REPLICA_URLS": f"postgresql://u:{password}@h/d"}
    (problem,) = problems(DATABASE_URL="postgresql://u:p@h2/d", **replica)
    assert "stray mark" in problem
    assert password not in problem
    (problem,) = problems(DATABASE_URL=f"postgresql://u:{password}@h/d")
    assert "stray mark" in problem


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("u:100%secret@h/db", "write a % in a password as %25"),
        ("u:secret%4@h/db", "write a % in a password as %25"),
        ("u:secret%00@h/db", "write a % in a password as %25"),
        ("u:secret@[::1/db", "must be like postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("u:secret@[::1]x/db", "must be like"),
        ("u:secret@[]/db", "must be like"),
        ("u:secret", "must be like"),
        ("u:se cret@h/db", "a space as %20"),
        ("u@h/db?password=se&cret", "& and = in a value as %26 %3D"),
        ("u@h/db?password=secret=", "& and = in a value as %26 %3D"),
    ],
)
def test_a_url_that_the_driver_would_quote_in_the_log_is_refused(rest, words):
    (problem,) = problems(DATABASE_URL=f"postgresql://{rest}")
    assert problem.startswith("DATABASE_URL")
    assert words in problem
    replica = {"DATABASE_REPLICA_URLS": f"postgresql://{rest}"}
    (of_replica,) = problems(DATABASE_URL="postgresql://u:p@h2/d", **replica)
    assert words in of_replica
    assert "cret" not in problem + of_replica
