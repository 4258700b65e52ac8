"""TXT records, asked of a resolver that lies, drips, floods or says nothing."""

import socket
import time
from contextlib import suppress

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import FetchFailed, NotFound
from server.identity.txt_records import MAX_ANSWER_BYTES
from tests.dns_server import TCP, UDP, quoted
from tests.fuzzing import fuzz
from tests.identity.wire import SHORT_S, SLACK_S

NAME = "_atproto.ann.example.com"

pytestmark = pytest.mark.attack("DNS")


@pytest.mark.parametrize("texts", [["x" * 250] * 240, ["x"] * 2000], ids=["60 kB", "2000 records"])
def test_a_far_too_long_answer_is_not_read(dns_server, ask, texts):
    dns_server.say(NAME, "TXT", *(quoted(f"{n} {text}") for n, text in enumerate(texts)))
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="too long"):
        ask()
    assert time.monotonic() - began < SLACK_S
    assert (NAME, TCP) in dns_server.asked


def test_the_longest_answer_takes_little_of_the_processor(dns_server, ask):
    texts = [f"{number:03}" for number in range(MAX_ANSWER_BYTES // 16 - 10)]
    dns_server.misbehave = lambda question, transport: (
        [dns_server.answer_with(question, *texts)] if transport == TCP else None
    )
    dns_server.say(NAME, "TXT", *map(quoted, texts))
    began = time.thread_time()
    assert len(ask()) == len(texts)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    "lie",
    ["number", "number, cut short", "question", "source", "no bytes", "noise", "a question"],
)
def test_what_is_no_answer_to_our_question_is_passed_over(dns_server, ask, lie):
    dns_server.say(NAME, "TXT", '"true"')
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def misbehave(question, transport):
        true, false = (dns_server.answer_with(question, text) for text in ("true", "false"))
        if lie == "source":
            other.sendto(false, dns_server.peers[-1])
            return [true]
        number, not_it = question.to_wire()[:2], bytes([false[0] ^ 1])
        eve = dns.message.make_query("_atproto.eve.example.com", "TXT", id=question.id)
        lies = {
            "number": not_it + false[1:],
            "number, cut short": not_it + false[1:2] + b"\x83\x80" + false[4:],
            "question": dns_server.answer_with(eve, "false"),
            "no bytes": b"",
            "noise": number + b"\0" + b"\xff" * 99,
            "a question": question.to_wire(),
        }
        return [lies[lie], true]

    dns_server.misbehave = misbehave
    with other:
        assert ask() == [b"true"]
    assert dns_server.asked == [(NAME, UDP)]


@pytest.mark.parametrize("reply", [[], [b"\0" * 12], [b""]], ids=["silence", "zeros", "nothing"])
def test_the_deadline_holds_whatever_the_resolver_does(dns_server, ask, reply):
    dns_server.misbehave = lambda *_: reply
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="no answer in time"):
        ask(deadline_s=SHORT_S)
    assert SHORT_S * 0.9 < time.monotonic() - began < SHORT_S + SLACK_S
    # A packet may get lost.
    assert len(dns_server.asked) == 2


def test_an_answer_that_never_ends_does_not_hold_us(dns_server, ask):
    def drip(question, transport):
        while not dns_server.stop.wait(0.02):
            yield b"\0" * 12

    dns_server.misbehave = drip
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="no answer in time"):
        ask(deadline_s=SHORT_S)
    assert time.monotonic() - began < SHORT_S + SLACK_S


@pytest.mark.parametrize("way", ["silent", "drip", "cut", "short", "foreign", "truncated"])
def test_trouble_over_tcp_is_no_answer_in_time(dns_server, ask, way):
    def misbehave(question, transport):
        answer = dns_server.good_answer(question)
        if transport == UDP:
            answer.flags |= dns.flags.TC
            return [answer.to_wire()]
        if way == "silent":
            dns_server.stop.wait(SHORT_S + SLACK_S)
            return []
        if way == "foreign":
            asked = dns.message.make_query("_atproto.eve.example.com", "TXT", id=question.id)
            return [dns_server.answer_with(asked, "false")]
        if way == "truncated":
            answer.flags |= dns.flags.TC
            return [answer.to_wire()]
        return [] if way == "cut" else [answer.to_wire()[: 10 if way == "short" else None]]

    dns_server.misbehave, dns_server.drips = misbehave, way == "drip"
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="DNS does not say") as caught:
        ask(deadline_s=SHORT_S)
    assert not isinstance(caught.value, NotFound)
    assert time.monotonic() - began < SHORT_S + SLACK_S
    assert (NAME, TCP) in dns_server.asked


@fuzz(100)
@given(
    changes=st.lists(st.tuples(st.integers(2, 150), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 200),
)
def test_no_bytes_whatever_raise_anything_but_a_failure(dns_server, ask, changes, length):
    def misbehave(question, transport):
        answer = dns_server.good_answer(question)
        if transport == UDP:
            answer.flags |= dns.flags.TC
            return [answer.to_wire()]
        data = bytearray(answer.to_wire())
        for place, byte in changes:
            data[place % (len(data) - 2) + 2] = byte
        return [bytes(data[:length])]

    if not dns_server.asked:
        dns_server.say(NAME, "CNAME", "b.example.com.")
        dns_server.say("b.example.com", "TXT", '"did=" "did:plc:x"', '"v=spf1 -all"')
    dns_server.misbehave = misbehave
    with suppress(FetchFailed):
        assert all(isinstance(text, bytes) for text in ask())
