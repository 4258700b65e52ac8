"""JSON from strangers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.identity.strict_json import MAX_CONTAINERS, MAX_DEPTH, parse_json
from tests.fuzzing import fuzz

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@fuzz(100)
@given(VALUES, st.booleans())
def test_ordinary_json_is_read_as_it_was_written(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text.encode(), unique_keys=True) == value


@fuzz(200)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}"\\,:1 a', max_size=60).map(str.encode))
def test_anything_else_is_a_value_error(body):
    try:
        parsed = parse_json(body)
    except ValueError:
        return
    assert parsed == json.loads(body.decode())


def test_depth_is_bounded_exactly():
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        for depth, fine in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False)):
            body = (opening * depth + "1" + closing * depth).encode()
            if fine:
                parse_json(body)
            else:
                with pytest.raises(ValueError, match="too deeply"):
                    parse_json(body)


def test_brackets_in_strings_do_not_count():
    text = '["\\\\", "' + "[" * 500 + '\\"{{{"]'
    assert parse_json(text.encode()) == ["\\", "[" * 500 + '"{{{']


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[" + b"{}," * MAX_CONTAINERS + b"{}]",
        b'"' + b'\\"' * 500_000,
        b'{"a":NaN}',
        b"[Infinity]",
        b"1" * 5000,
        b'\xff\xfe[\x00"\x00',
        b"\xef\xbb\xbf{}",
        b"",
    ],
)
def test_expensive_and_improper_json_is_refused_at_once(body):
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)


def test_a_key_named_twice_is_refused_where_that_matters():
    assert parse_json(b'{"a":1,"a":2}') == {"a": 2}
    with pytest.raises(ValueError, match="twice"):
        parse_json(b'[{"a":1,"\\u0061":2}]', unique_keys=True)
