"""The protocol's small languages, by the specifications' vectors and rules."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.syntax import (
    datetime_ms,
    int_to_tid,
    is_at_uri,
    is_did,
    is_hostname,
    is_rkey,
    is_tid,
    split_at_uri,
    tid_to_int,
    tid_us,
)

POST = "app.bsky.feed.post"
PLC = "did:plc:z72i7hdynmk6r22z27h6tvur"


def test_the_specifications_tid_means_its_number():
    assert tid_to_int("3jzfcijpj2z2a") == 1728652679052295174
    assert int_to_tid(1728652679052295174) == "3jzfcijpj2z2a"
    assert tid_us(1728652679052295174) == 1688137381887007


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_tids_are_read_as_written_and_sort_as_their_numbers(one, other):
    texts = int_to_tid(one), int_to_tid(other)
    assert all(is_tid(text) for text in texts)
    assert [tid_to_int(text) for text in texts] == [one, other]
    assert (texts[0] < texts[1]) == (one < other)


@pytest.mark.parametrize(
    "text", ["3jzfcijpj2z2a", "7777777777777", "3zzzzzzzzzzzz", "2222222222222"]
)
def test_sound_tids(text):
    assert is_tid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3jzfcijpj2z21",
        "0000000000000",
        "3jzfcijpj2z2aa",
        "3jzfcijpj2z2",
        "3jzf-cij-pj2z-2a",
        "zzzzzzzzzzzzz",
        "kjzfcijpj2z2a",
        "3JZFCIJPJ2Z2A",
        "3jzfcijpj2z2a\n",
    ],
)
def test_what_is_no_tid(text):
    assert not is_tid(text)


@pytest.mark.parametrize("text", [PLC, "did:web:example.com", "did:web:a-b.c1.example.org"])
def test_dids_of_accounts(text):
    assert is_did(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice.test",
        PLC + "a",
        PLC[:-1],
        PLC.upper(),
        PLC + "\n",
        PLC + "#atproto",
        "did:plc:z72i7hdynmk6r22z27h6tvu1",
        "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N",
        "did:web:localhost",
        "did:web:localhost%3A8000",
        "did:web:example.com:path",
        "did:web:example.com/path",
        "did:web:user@example.com",
        "did:web:127.0.0.1",
        "did:web:[::1]",
        "did:web:Example.com",
        "did:web:" + "a" * 64 + ".com",
        "did:web:" + "a." * 130 + "com",
    ],
)
def test_what_is_no_did_of_an_account(text):
    assert not is_did(text)


@pytest.mark.parametrize("text", ["example.com", "xn--bcher-kva.example", "a.b.c.d", "1.com"])
def test_host_names(text):
    assert is_hostname(text)


@pytest.mark.parametrize(
    "text", ["example", "example.com.", ".com", "-a.com", "a-.com", "a_b.com", "1.2.3.4", "a..com"]
)
def test_what_is_no_host_name(text):
    assert not is_hostname(text)


@pytest.mark.parametrize(
    "text", ["self", "3jzfcijpj2z2a", "~1.2-3_", "example.com", "pre:fix", "x" * 512]
)
def test_record_keys(text):
    assert is_rkey(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a b", "#x", "ä", "x" * 513, "self\n", "a%"]
)
def test_what_is_no_record_key(text):
    assert not is_rkey(text)


DIDS = st.one_of(
    st.from_regex(r"did:plc:[a-z2-7]{24}", fullmatch=True),
    st.from_regex(r"did:web:[a-z]{1,9}\.[a-z]{2,5}", fullmatch=True),
)
RKEYS = st.from_regex(r"[A-Za-z0-9_~.:-]{1,64}", fullmatch=True).filter(is_rkey)


@given(DIDS, st.sampled_from((POST, "app.bsky.graph.follow", "com.example.x")), RKEYS)
def test_at_uris_are_split_as_they_were_joined(did, collection, rkey):
    uri = f"at://{did}/{collection}/{rkey}"
    assert split_at_uri(uri) == (did, collection, rkey)
    assert is_at_uri(uri, collection)
    assert not is_at_uri(uri, "another.collection")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        f"at://{PLC}",
        f"at://{PLC}/{POST}",
        f"at://{PLC}/{POST}/",
        f"at://{PLC}/{POST}/..",
        f"at://{PLC}/{POST}/a/b",
        f"at://{PLC}/{POST}/a#b",
        f"at://{PLC}/{POST}/a?b",
        f"at://{PLC}/{POST}/a\n",
        f"at://{PLC}//a",
        f"at://alice.test/{POST}/a",
        f"https://{PLC}/{POST}/a",
        f"{PLC}/{POST}/a",
        f"at://did:web:{'a' * 2048}.com/{POST}/a",
        f" at://{PLC}/{POST}/a",
    ],
)
def test_what_is_no_uri_of_a_record(uri):
    assert split_at_uri(uri) is None


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1985-04-12T23:20:50.123Z", 482196050123),
        ("1985-04-12T23:20:50.123456Z", 482196050123),
        ("1985-04-12T23:20:50.1Z", 482196050100),
        ("1985-04-12T23:20:50.1239999999999Z", 482196050123),
        ("1985-04-12T23:20:50.12345678901234567890Z", 482196050123),
        ("1985-04-12T23:20:50." + "9" * 43 + "Z", 482196050999),
        ("1985-04-12T23:20:50.123+00:00", 482196050123),
        ("1985-04-12T23:20:50.123+01:45", 482189750123),
        ("1985-04-12T23:20:50.123-07:00", 482221250123),
        ("2000-02-29T00:00:00Z", 951782400000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00.000Z", -62135596800000),
        ("0000-02-29T12:00:00Z", -62162078400000),
        ("1985-02-29T00:00:00Z", 478483200000),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
    ],
)
def test_datetimes(text, ms):
    assert datetime_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        None,
        482196050123,
        "",
        "1985-04-12",
        "1985-04-12T23:20Z",
        "1985-04-12T23:20:5Z",
        "1985-04-12T23:20:50.Z",
        "1985-04-12T23:20:50.123",
        "1985-04-12 23:20:50.123Z",
        "1985-04-12t23:20:50.123Z",
        "1985-04-12T23:20:50.123z",
        "1985-04-12T23:20:50.123-00:00",
        "1985-04-12T23:20:50.123+0145",
        "1985-04-12T23:20:50.123+01",
        "1985-04-12T23:20:50.123+24:00",
        "1985-04-12T23:20:50.123+01:60",
        "1985-04-12T24:00:00Z",
        "1985-04-12T23:60:00Z",
        "1985-04-12T23:59:60Z",
        "1985-13-01T00:00:00Z",
        "1985-00-10T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "-001-01-01T00:00:00Z",
        "+1985-04-12T23:20:50Z",
        "01985-04-12T23:20:50Z",
        "1985-W15-5T00:00:00Z",
        "19850412T232050Z",
        "1985-04-12T23:20:50.123Z\n",
        " 1985-04-12T23:20:50Z",
        "1985-04-12T23:20:50,123Z",
        "١٩٨٥-04-12T23:20:50Z",
        "1985-04-12T23:20:50." + "1" * 44 + "Z",
        "9999-12-31T23:59:59-01:00",
        "1985-04-12T23:20:50.123Z" + " " * 50,
    ],
)
def test_what_is_no_datetime(text):
    assert datetime_ms(text) is None


MOMENTS = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001  hypothesis wants it so
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(MOMENTS, st.integers(-1439, 1439).filter(bool))
def test_a_zone_moves_the_clock_and_not_the_moment(moment, offset):
    text = f"{moment:%H:%M:%S}.{moment.microsecond:06}"
    date = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    sign, minutes = "+" if offset > 0 else "-", abs(offset)
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    exact = datetime_ms(f"{date}T{text}Z")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    whole = moment.replace(microsecond=0) - epoch
    assert exact == (whole.days * 86400 + whole.seconds) * 1000 + moment.microsecond // 1000
    assert datetime_ms(f"{date}T{text}{zone}") == exact - offset * 60_000
