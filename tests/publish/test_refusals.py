"""Each way in which publishing can fail says what to do, and changes nothing."""

import dataclasses
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import publish_feed
from feeds import FEEDS
from publishing.record import count_graphemes

ROOT = Path(publish_feed.__file__).parent


def test_a_wrong_password_is_told_from_a_wrong_handle(pds, command):
    outcome = command("publish", PUBLISH_APP_PASSWORD=pds.password[::-1])
    assert outcome.code == 1
    assert "refuses the password for publisher.test" in outcome.err

    outcome = command("publish", PUBLISH_HANDLE="nobody.test")
    assert outcome.code == 1
    assert "knows no account nobody.test" in outcome.err
    assert pds.writes == []


def test_a_handle_may_be_written_with_its_at_sign(pds, command):
    assert command("publish", PUBLISH_HANDLE="@publisher.test").code == 0


def test_a_main_password_with_a_second_factor_is_explained(pds, command):
    pds.fail_next(
        "com.atproto.server.createSession", 401, "AuthFactorTokenRequired", "A sign in code…"
    )
    outcome = command("publish")
    assert outcome.code == 1
    assert "app password" in outcome.err


@pytest.mark.parametrize(
    ("headers", "when"),
    [
        ({"retry-after": "120"}, "in 120 seconds"),
        ({"ratelimit-reset": "1767225600"}, "after 2026-01-01 00:00:00 UTC"),
        ({}, "later"),
    ],
)
def test_a_rate_limit_says_when_to_come_back(pds, command, headers, when):
    pds.fail_next("com.atproto.server.createSession", 429, "RateLimitExceeded", headers=headers)
    outcome = command("publish")
    assert outcome.code == 1
    assert f"try again {when}" in outcome.err


def test_the_account_of_another_publisher_is_refused_before_anything_is_written(pds, command):
    outcome = command("publish", FEED_PUBLISHER_DID="did:plc:aaaabbbbccccddddeeeeffff")
    assert outcome.code == 1
    assert f"set FEED_PUBLISHER_DID={pds.did}" in outcome.err
    assert pds.writes == []


def test_who_does_not_know_the_did_of_the_account_is_told_it(pds, command):
    outcome = command("publish", FEED_PUBLISHER_DID="")
    assert outcome.code == 1
    assert f"FEED_PUBLISHER_DID is not set, but publisher.test is {pds.did}" in outcome.err
    assert pds.writes == []


def test_an_answer_of_the_pds_is_passed_on(pds, command):
    pds.fail_next("com.atproto.repo.putRecord", 400, "InvalidRequest", "Record/did is no DID")
    outcome = command("publish")
    assert outcome.code == 1
    assert "400 InvalidRequest: Record/did is no DID" in outcome.err


def test_a_failed_read_is_not_taken_for_an_absent_record(pds, command):
    pds.fail_next("com.atproto.repo.getRecord", 400, "InvalidRequest", "Could not find repo")
    assert command("publish").code == 1
    assert pds.writes == []


def test_an_unreachable_pds_is_named(command):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        outcome = command("publish", PUBLISH_PDS_URL=url)
    assert outcome.code == 1
    assert f"{url} cannot be reached" in outcome.err


@pytest.mark.parametrize("answer", [b"", b"220 mail.example.com ESMTP\r\n"])
def test_a_server_of_another_kind_is_not_a_stack_trace(command, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        run = subprocess.Popen(
            [sys.executable, "publish_feed.py", "publish"],
            cwd=ROOT,
            env=command.environ | {"PUBLISH_PDS_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
        _, err = run.communicate(timeout=30)
    assert run.returncode == 1
    assert f"{url} cannot be reached" in err
    assert "Traceback" not in err


def test_a_server_that_is_no_pds_is_named(pds, command):
    pds.before["com.atproto.server.createSession"] = [lambda: setattr(pds, "did", {"no": "did"})]
    outcome = command("publish")
    assert outcome.code == 1
    assert "does not answer like a PDS" in outcome.err


def test_a_local_trial_is_not_published_to_the_public_network(command):
    outcome = command("publish", FEED_HOSTNAME="", PUBLISH_PDS_URL="https://pds.example.com")
    assert outcome.code == 1
    assert "FEED_HOSTNAME is not set" in outcome.err


@pytest.mark.parametrize(
    "url",
    [
        "http://pds.example.com",
        "http://8.8.8.8",
        "ftp://127.0.0.1",
        "https://",
        "https://user:secret@pds.example.com",
        "https://pds.example.com/path",
        "https://pds.example.com:port",
        "pds.example.com",
    ],
)
def test_a_pds_address_that_would_leak_or_cannot_work_is_refused(command, url):
    outcome = command("publish", PUBLISH_PDS_URL=url)
    assert outcome.code == 1
    assert "PUBLISH_PDS_URL" in outcome.err


def test_every_problem_with_a_feed_is_named_before_the_network_is_asked(pds, command):
    command.feeds = [
        dataclasses.replace(FEEDS[0], display_name="x" * 25),
        dataclasses.replace(FEEDS[1], description="é" * 301),
        dataclasses.replace(FEEDS[2], display_name=" ", labels=("",)),
        dataclasses.replace(FEEDS[3], labels=("spoiler",) * 11),
    ]
    (command.avatars / "following.png").write_bytes(b"RIFF1234WEBP")
    (command.avatars / "everything.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1_000_000))

    outcome = command("publish")

    assert outcome.code == 1
    assert "following: the display name has 25 characters; 24 are allowed" in outcome.err
    assert "everything: the description has 301 characters; 300 are allowed" in outcome.err
    assert "posts-only: the display name is empty" in outcome.err
    assert "posts-only: the label '' is empty or has more than 128 bytes" in outcome.err
    assert f"{FEEDS[3].rkey}: 11 labels; 10 are allowed" in outcome.err
    assert "following: the avatar is neither a PNG nor a JPEG" in outcome.err
    assert "everything: the avatar has 1,000,003 bytes; 1,000,000 are allowed" in outcome.err
    assert pds.calls == []


def test_bytes_are_limited_too(pds, command):
    families = "👨‍👩‍👧‍👦" * 24
    command.feeds = [dataclasses.replace(FEEDS[0], display_name=families)]
    outcome = command("publish")
    assert outcome.code == 1
    assert "the display name has 600 bytes; 240 are allowed" in outcome.err


def test_two_avatars_for_one_feed_are_refused(pds, command):
    (command.avatars / "following.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (command.avatars / "following.jpg").write_bytes(b"\xff\xd8\xff")
    outcome = command("publish")
    assert outcome.code == 1
    assert "keep one" in outcome.err
    assert pds.calls == []


def test_wrong_settings_of_the_service_are_named(pds, command):
    outcome = command("publish", FEED_HOSTNAME="https://feeds.example.com/", PUBLISH_HANDLE="x")
    assert outcome.code == 1
    assert "FEED_HOSTNAME" in outcome.err
    assert pds.calls == []


def test_a_missing_handle_is_named(command):
    outcome = command("publish", PUBLISH_HANDLE="")
    assert outcome.code == 1
    assert "PUBLISH_HANDLE is not set" in outcome.err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["unknown-word"],
        ["publish", "no-such-feed"],
        ["check", "no-such-feed"],
        ["remove"],
        ["remove", "--all", "following"],
        ["remove", "not/a/key"],
        ["publish", "--password", "x"],
        ["check", "--dry-run"],
    ],
)
def test_a_wrong_command_line_exits_with_2(pds, command, argv):
    assert command(*argv).code == 2
    assert pds.calls == []


def test_without_a_password_and_a_terminal_the_command_stops(pds, command):
    run = subprocess.run(
        [sys.executable, "publish_feed.py", "publish"],
        cwd=ROOT,
        env=command.environ | {"PUBLISH_APP_PASSWORD": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "no terminal" in run.stderr
    assert pds.calls == []


def test_at_a_terminal_the_password_is_asked_for(pds, command, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: pds.password)
    assert command("publish", PUBLISH_APP_PASSWORD="").code == 0
    assert len(pds.records) == len(FEEDS)


def test_settings_come_from_the_file_unless_the_environment_has_them(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PUBLISH_HANDLE=file.test\nFEED_HOSTNAME=file.example.com\n")
    monkeypatch.setenv("PUBLISH_HANDLE", "environment.test")
    environ = publish_feed.read_environ(tmp_path / ".env")
    assert environ["PUBLISH_HANDLE"] == "environment.test"
    assert environ["FEED_HOSTNAME"] == "file.example.com"


def test_a_file_of_settings_that_cannot_be_read_is_a_sentence(tmp_path, capsys):
    (tmp_path / ".env").write_bytes("PUBLISH_HANDLE=café.test".encode("latin-1"))
    assert publish_feed.run(["publish"], tmp_path / ".env") == 1
    assert ".env cannot be read: 'utf-8'" in capsys.readouterr().err


def test_a_slow_pds_is_given_up(pds, command, monkeypatch):
    monkeypatch.setattr("publishing.account.TIMEOUT_SECONDS", 0.2)
    given_up = threading.Event()
    pds.before["com.atproto.server.createSession"] = [lambda: given_up.wait(30)]
    outcome = command("publish")
    given_up.set()
    assert outcome.code == 1
    assert "cannot be reached (timed out)" in outcome.err


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Following, gapless", 18),
        ("e\u0301a", 2),
        ("👨‍👩‍👧‍👦", 1),
        ("🏳️‍🌈👍🏽1️⃣", 3),
        ("🇩🇪🇫🇷🇮", 3),
        ("한국어", 3),
        ("\u1112\u1161\u11ab", 1),
        ("a\r\nb\n", 4),
        ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", 1),
        ("a\u200db", 2),
    ],
)
def test_graphemes_are_what_a_reader_counts(text, count):
    assert count_graphemes(text) == count
