"""Settings: defaults that work, and every problem named at once."""

import pytest

from server.core.config import (
    DEFAULTS,
    UNPUBLISHED_DID,
    load_config,
)
from server.core.errors import ConfigError
from server.core.setting_values import (
    JETSTREAM_V1_PATH,
    JETSTREAM_V2_PATH,
    RELAY_PATH,
    ZSTD_DICTIONARY,
)
from tests.builders import did

PUBLIC = {"FEED_HOSTNAME": "feed.example.com", "FEED_PUBLISHER_DID": did("publisher")}


def problems(**settings):
    with pytest.raises(ConfigError) as refused:
        load_config(settings)
    return refused.value.problems


def test_nothing_set_is_a_trial_on_this_machine():
    config = load_config({})
    assert config.is_local_trial
    assert (config.hostname, config.port) == ("localhost", 8000)
    assert config.service_did == "did:web:localhost%3A8000"
    assert config.service_endpoint == "http://localhost:8000"
    assert config.publisher_did == UNPUBLISHED_DID
    assert not config.allow_private_hosts
    assert config.notice_post_uri is None
    assert (config.retention_days, config.backfill_days) == (30, 7)


def test_every_default_is_one_that_may_be_set():
    assert load_config(DEFAULTS) == load_config({})
    for name, text in DEFAULTS.items():
        assert load_config({name: text}) == load_config({}), name
        assert load_config({name: "  "}) == load_config({}), name


def test_a_host_name_makes_the_did_and_the_endpoint():
    config = load_config({**PUBLIC, "FEED_HOSTNAME": "Feed.Example.com", "PORT": "80"})
    assert not config.is_local_trial
    assert config.service_did == "did:web:feed.example.com"
    assert config.service_endpoint == "https://feed.example.com"
    own = load_config({**PUBLIC, "FEED_SERVICE_DID": "did:plc:" + "a" * 24})
    assert own.service_did == "did:plc:" + "a" * 24


def test_a_public_host_needs_a_publisher():
    (problem,) = problems(FEED_HOSTNAME="feed.example.com")
    assert problem.startswith("FEED_PUBLISHER_DID is not set")


def test_all_problems_are_named_at_once():
    wrong = {
        "FEED_HOSTNAME": "https://feed.example.com/",
        "FEED_PUBLISHER_DID": "alice.test",
        "FEED_SERVICE_DID": "did:web:x#bsky_fg",
        "DATABASE_URL": "mysql://u:secret@host/db",
        "DATABASE_REPLICA_URLS": "mysql://u:secret@host/db",
        "STREAM_URLS": "https://bsky.network",
        "JETSTREAM_DICTIONARY": "/nowhere/zstd_dictionary",
        "JETSTREAM_FILTER_DIDS": "some",
        "PLC_URL": "plc.directory",
        "APPVIEW_URL": "public.api.bsky.app",
        "RETENTION_DAYS": "0",
        "BACKFILL_DAYS": "x",
        "VIEWER_DAYS": "0",
        "PORT": "65536",
        "WEB_WORKERS": "-1",
        "WEB_THREADS": "1.5",
        "RECENT_ITEMS": "999",
        "VIEWER_REQUESTS_PER_MINUTE": "0",
        "BACKFILL_WORKERS": "10000",
        "LOG_FORMAT": "xml",
        "LOG_LEVEL": "LOUD",
        "ALLOW_PRIVATE_HOSTS": "maybe",
        "NOTICE_POST_URI": "https://bsky.app/profile/x/post/y",
        "ADMIN_TOKEN": "too short: secret",
        "SENTRY_DSN": "sentry.io",
        "BACKUP_HOURS": "0",
        "BACKUP_KEEP": "none",
    }
    # Any text names a folder.
    assert wrong.keys() == DEFAULTS.keys() - {"BACKUP_DIR"}
    found = problems(**wrong)
    assert len(found) == len(wrong)
    for name in wrong:
        assert sum(problem.startswith(f"{name}=") for problem in found) == 1, name


def test_the_dsn_of_a_project_names_its_key():
    dsn = "https://0123456789abcdef@o42.ingest.de.example.com/4505"
    assert load_config({"SENTRY_DSN": dsn}).sentry_dsn == dsn


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@host/db",
        "u:secret@host",
        "postgres:u:secret@host",
        "sqlite://secret",
        "sqlite:///",
        "POSTGRES//u:secret@host",
    ],
)
def test_the_password_of_a_database_url_is_never_shown(url):
    (problem,) = problems(DATABASE_URL=url)
    assert problem.startswith("DATABASE_URL='(hidden)'")
    assert "secret" not in problem


@pytest.mark.parametrize("text", ["1", "true", "Yes", "on"])
def test_a_switch_is_on(text):
    assert load_config({"ALLOW_PRIVATE_HOSTS": text}).allow_private_hosts


@pytest.mark.parametrize("text", ["0", "false", "No", "off"])
def test_a_switch_is_off(text):
    assert not load_config({"ALLOW_PRIVATE_HOSTS": text}).allow_private_hosts


@pytest.mark.parametrize(
    "text", ["٣", "1_0", "+5", "1e1", "0x10", "", "99999999999999999999999", "1" * 5000, "²"]
)
def test_numbers_are_plain_digits_within_bounds(text):
    if not text:
        assert load_config({"WEB_WORKERS": text}).web_workers == 2
        return
    assert problems(WEB_WORKERS=text)[0].startswith("WEB_WORKERS=")


@pytest.mark.parametrize(
    ("name", "text"),
    [("PORT", "000000080000000"), ("RECENT_ITEMS", "0000010000000"), ("WEB_WORKERS", "0" * 5000)],
)
def test_zeros_before_a_number_hide_nothing_of_it(name, text):
    assert "a whole number from" in problems(**{name: text + "0"})[0]
    assert load_config({"PORT": "0" * 5000 + "80"}).port == 80


@pytest.mark.parametrize("name", ["PLC_URL", "APPVIEW_URL", "SENTRY_DSN"])
@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_what_is_no_port_is_refused(name, port):
    key = "key@" if name == "SENTRY_DSN" else ""
    (problem,) = problems(**{name: f"https://{key}example.com:{port}/1"})
    assert problem.startswith(f"{name}=")
    assert "port" in problem.lower()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FEED_SERVICE_DID", "did:web:"),
        ("FEED_SERVICE_DID", "did:web:https://feeds.example.com"),
        ("FEED_SERVICE_DID", "did:web:feeds.example.com:8000"),
        ("FEED_SERVICE_DID", "did:plc:short"),
        ("PLC_URL", "https://plc.directory/#"),
        ("PLC_URL", "https://plc.directory?"),
        ("APPVIEW_URL", "https://:word@public.api.bsky.app"),
    ],
)
def test_what_nobody_could_ask_is_refused(name, text):
    (problem,) = problems(**{name: text})
    assert problem.startswith(f"{name}=")


def test_a_service_did_may_be_of_this_machine():
    own = "did:web:localhost%3A8000"
    assert load_config({"FEED_SERVICE_DID": own}).service_did == own


def test_several_streams_are_kept_in_their_order():
    one, two = f"wss://one.example{RELAY_PATH}", f"ws://127.0.0.1:2470{RELAY_PATH}"
    assert load_config({"STREAM_URLS": f" {one} , {two},"}).stream_urls == ((one,), (two,))


def test_streams_joined_by_a_plus_are_read_together():
    one, two = f"wss://one.example{RELAY_PATH}", f"wss://two.example{JETSTREAM_V1_PATH}"
    three = f"wss://three.example{JETSTREAM_V2_PATH}"
    urls = load_config({"STREAM_URLS": f"{one} + {two},{three}"}).stream_urls
    assert urls == ((one, two), (three,))


@pytest.mark.parametrize(
    "url",
    [
        f"https://a.example{RELAY_PATH}",
        f"wss://{RELAY_PATH}",
        "wss://a.example/subscribe/",
        f"wss://a.example{RELAY_PATH}+wss://a.example/subscribe",
        f"wss://a.example{RELAY_PATH}+",
        f"wss://a.example{RELAY_PATH}?cursor=0",
        f"wss://u:p@a.example{RELAY_PATH}",
        f"wss://:p@a.example{RELAY_PATH}",
        f"wss://a.example{RELAY_PATH}#x",
        ",",
        " , ,",
        f"wss://a.example:port{RELAY_PATH}",
        f"wss://[a.example{RELAY_PATH}",
    ],
)
def test_what_is_no_source_is_refused(url):
    assert problems(STREAM_URLS=url)[0].startswith("STREAM_URLS=")


def test_a_backfill_longer_than_the_memory_is_refused():
    assert "BACKFILL_DAYS=8" in problems(RETENTION_DAYS="7", BACKFILL_DAYS="8")[0]


def test_the_notice_is_a_post_by_did():
    uri = f"at://{did('ann')}/app.bsky.feed.post/3jzfcijpj2z2a"
    assert load_config({"NOTICE_POST_URI": uri}).notice_post_uri == uri
    for wrong in (uri + "\nx", uri.replace(did("ann"), "ann.test"), uri.replace("post", "like")):
        assert problems(NOTICE_POST_URI=wrong)


def test_secrets_are_not_shown():
    wrong = {"ADMIN_TOKEN": "sesame!"}
    settings = {"ADMIN_TOKEN": "s" * 32, "DATABASE_URL": "postgresql://u:sesame@host/db"}
    shown = repr(load_config(settings)) + str(problems(**wrong))
    assert "sesame" not in shown
    assert "s" * 32 not in shown


def test_an_appview_is_asked_unless_it_is_switched_off():
    assert load_config({}).appview_url == "https://public.api.bsky.app"
    assert load_config({"APPVIEW_URL": "http://localhost:1/"}).appview_url == "http://localhost:1"
    assert load_config({"APPVIEW_URL": "off"}).appview_url is None


def test_a_dictionary_is_a_file_that_begins_as_one(tmp_path):
    path = tmp_path / "dictionary"
    assert "cannot be read" in problems(JETSTREAM_DICTIONARY=str(path))[0]
    path.write_bytes(b"something else")
    assert "zstd dictionary" in problems(JETSTREAM_DICTIONARY=str(path))[0]
    path.write_bytes(ZSTD_DICTIONARY + b"and so on")
    assert load_config({"JETSTREAM_DICTIONARY": str(path)}).jetstream_dictionary == str(path)


def test_a_filter_lists_no_more_accounts_than_a_jetstream_takes():
    assert load_config({}).jetstream_filter_dids == 0
    assert load_config({"JETSTREAM_FILTER_DIDS": "10000"}).jetstream_filter_dids == 10_000
    assert "from 0 to 10000" in problems(JETSTREAM_FILTER_DIDS="10001")[0]


def test_memory_for_first_pages_is_enough_for_one_or_there_is_none():
    assert load_config({"RECENT_ITEMS": "0"}).recent_items == 0
    assert load_config({"RECENT_ITEMS": "1000"}).recent_items == 1_000
    for text in ("999", "00", "10000001", "1e4", "-1000"):
        assert "0, or a whole number from 1000" in problems(RECENT_ITEMS=text)[0]
