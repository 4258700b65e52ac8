"""Is my feed complete? Told only of who said in public that they care; the rest looks all alike."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import outgoing
from server.app import create_app, make_checks
from server.core.config import load_config
from server.storage import repos, viewers
from server.storage.authors import author_ids
from server.storage.database import DatabaseError, close_database, current, execute
from server.storage.ledger import Window
from server.storage.many_rows import insert_rows
from server.web import feed_check
from simnet import Network, PatientClock
from tests.builders import did, number_of, track

pytestmark = pytest.mark.by_hand

WINDOW = Window(0, 0)
FRIENDS = 10


@pytest.fixture(scope="module")
def net():
    with Network(seed=23, pds=2, clock=PatientClock()) as net:
        for number, name in enumerate(("publisher", "fan", "silent", "stranger", "liker")):
            net.create_account(name, pds=number % 2)
        yield net


@pytest.fixture
def likes(net):
    """`fan` and `liker` like a feed of ours, `silent` likes something else."""
    feed = net.publish_feed(net.account("publisher"), "following", "did:web:localhost")
    other = net.publish_feed(net.account("publisher"), "of-others", "did:web:localhost")
    made = {name: net.account(name).like(feed) for name in ("fan", "liker")}
    made["silent"] = net.account("silent").like(other)
    yield made
    for name, like in made.items():
        if net.world.lookup(like.uri) is not None:
            net.account(name).delete(like)


@pytest.fixture(autouse=True)
def names(net, dns_server, monkeypatch):
    """DNS proves the handles of all accounts; their hosts prove nothing."""
    monkeypatch.setattr(outgoing, "system_resolvers", dns_server.resolvers)
    for state in net.world.accounts.values():
        dns_server.prove(state.handle, f"did={state.did}")
    return dns_server


@pytest.fixture
def config(net):
    return load_config(net.environment(net.account("publisher")))


@pytest.fixture
def client(config, db, likes, net):
    """A service with two viewers, `fan` and `silent`, who follow ten accounts each."""
    friends = [f"friend{number}" for number in range(FRIENDS)]
    track(*friends)
    for name in ("fan", "silent"):
        number = viewers.welcome(net.account(name).did, time.time_ns() // 1000)
        insert_rows(
            "INSERT INTO follows (viewer_id, rkey, subject_id)",
            [(number, rkey, number_of(friend)) for rkey, friend in enumerate(friends)],
        )
    return create_app(config).test_client()


@pytest.fixture
def always_new(monkeypatch):
    """Nothing is kept, and nobody is too many."""
    monkeypatch.setattr(feed_check, "COUNTED_S", -1)
    monkeypatch.setattr(feed_check, "KEPT_S", -1)
    monkeypatch.setattr(feed_check, "LOOKS", 1000)


def ask(client, account, status=200):
    answer = client.get("/check", query_string={"account": account})
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "private, no-store"
    return answer.get_data(as_text=True)


def in_thread(answer, account):
    try:
        return answer(account, WINDOW)
    finally:
        close_database()


def have_state(state, *dids):
    """These repos have got so far."""
    for number in author_ids(dids).values():
        execute("UPDATE repos SET state = ?, horizon_rkey = 0 WHERE author_id = ?", (state, number))
        if state == repos.LIVE:
            execute("DELETE FROM backfill_jobs WHERE author_id = ?", (number,))


@pytest.mark.usefixtures("always_new")
def test_a_viewer_who_likes_a_feed_is_told_how_far_theirs_is(client, net):
    fan = net.account("fan").did
    friends = [did(f"friend{number}") for number in range(FRIENDS)]
    text = ask(client, fan)
    assert "is being started" in text
    assert "data-soon" in text
    have_state(repos.LIVE, fan)
    have_state(repos.PARTIAL, *friends[:4])
    text = ask(client, fan)
    assert "is being built" in text
    assert '<progress id="built" max="11" value="5">' in text
    assert "data-soon" in text
    have_state(repos.PARTIAL, *friends)
    text = ask(client, fan)
    assert "is nearly complete" in text
    assert '<progress id="built" max="11" value="1">' in text
    have_state(repos.LIVE, *friends)
    text = ask(client, fan)
    assert "is complete" in text
    assert "Of all 11 accounts" in text
    assert "data-soon" not in text
    # Numbers, never names.
    assert not any(friend in text for friend in friends)


@pytest.mark.usefixtures("always_new")
def test_a_handle_that_only_dns_proves_is_found(client, net, names):
    have_state(repos.LIVE, net.account("fan").did)
    for text in ("fan.test", "@Fan.TEST"):
        assert "The feed of fan.test is being built" in ask(client, text)
    assert names.asked == [("_atproto.fan.test", "udp")] * 2


@pytest.mark.usefixtures("always_new")
def test_a_handle_is_only_whose_it_is_both_ways(client, net, names):
    # The owner of a name points at somebody who does not bear it.
    names.prove("eve.test", f"did={net.account('fan').did}")
    assert "cannot be found at the moment" in ask(client, "eve.test")
    # Somebody bears a name whose owner points elsewhere as well.
    names.prove("fan.test", f"did={net.account('silent').did}")
    assert "cannot be found at the moment" in ask(client, "fan.test")


def test_dns_that_is_silent_holds_nobody_for_long(config, names, monkeypatch):
    monkeypatch.setattr(feed_check, "STEP_S", 0.3)
    names.misbehave = lambda *_: []
    checks = make_checks(config)
    began = time.monotonic()
    assert checks.answer("fan.test", WINDOW).kind == "unknown"
    # DNS and the host, each for its time.
    assert time.monotonic() - began < 2 * 0.3 + 1.0
    assert names.asked


def test_nobody_can_tell_a_viewer_from_anybody_else(client, net):
    told = {}
    for name in ("silent", "stranger", "liker"):
        account = net.account(name).did
        text = ask(client, account)
        assert "Nothing is told about" in text
        told[name] = text.replace(account, "X")
    assert told["silent"] == told["stranger"] == told["liker"]


@pytest.mark.parametrize("by", ["did", "handle"])
def test_the_same_servers_are_asked_the_same_of_viewer_and_stranger(
    client, net, names, monkeypatch, by
):
    asked = {name: [] for name in ("silent", "stranger")}
    checks = client.application.extensions["gapless"].checks
    real = checks._fetcher.get_json
    for name, seen in asked.items():
        account = net.account(name).did

        def note(url, params=None, *, seen=seen, account=account, **bounds):
            seen.append((url.replace(account, "X").rpartition("/")[2], len(params or ()), bounds))
            return real(url, params, **bounds)

        monkeypatch.setattr(checks._fetcher, "get_json", note)
        ask(client, getattr(net.account(name), by))
        seen += [(asked_name.replace(name, "X"), way) for asked_name, way in names.asked]
        names.asked.clear()
    assert asked["silent"] == asked["stranger"]
    assert len(asked["silent"]) == (2 if by == "did" else 3)


@pytest.mark.usefixtures("always_new")
def test_a_heart_that_is_taken_away_ends_it(client, net, likes):
    fan = net.account("fan")
    assert "The feed of" in ask(client, fan.did)
    fan.delete(likes["fan"])
    assert "Nothing is told about" in ask(client, fan.did)


@pytest.mark.usefixtures("db")
def test_who_cannot_be_found_is_no_fault_of_ours(client):
    assert "cannot be found at the moment" in ask(client, did("nobody at all"))
    assert "cannot be found at the moment" in ask(client, "no-such-host.invalid")


def test_an_at_sign_and_capitals_are_a_matter_of_taste(config, likes):
    checks = make_checks(config)
    assert checks.answer(" @No-Such-Host.INVALID ", WINDOW).account == "no-such-host.invalid"
    assert checks.answer("@", WINDOW).kind == "invalid"


def test_a_page_that_refreshes_itself_asks_nobody(client, net, monkeypatch):
    ask(client, net.account("stranger").did)
    checks = client.application.extensions["gapless"].checks
    monkeypatch.setattr(checks._fetcher, "get_json", None)
    for _ in range(50):
        ask(client, net.account("stranger").did)


def test_those_who_ask_too_much_are_told_to_wait(config):
    checks = make_checks(config)
    kinds = [checks.answer(did(f"made up {n}"), WINDOW).kind for n in range(feed_check.LOOKS + 2)]
    assert set(kinds[: feed_check.LOOKS]) == {"unknown"}
    assert kinds[-1] == "busy"


def test_one_slow_server_holds_one_thread(config, net, likes):
    checks = make_checks(config)
    net.faults.arm("http-slow", times=None, where={"host": "pds0"}, delay_s=1.0)
    slow, quick = net.account("silent"), net.account("stranger")
    assert (slow.pds.index, quick.pds.index) == (0, 1)
    thread = threading.Thread(target=checks.answer, args=(slow.did, WINDOW))
    thread.start()
    until = time.monotonic() + 5
    while not checks._looking.locked():
        assert time.monotonic() < until
    began = time.monotonic()
    assert checks.answer(quick.did, WINDOW).kind == "busy"
    assert time.monotonic() - began < 0.5
    thread.join()
    net.faults.disarm()
    assert net.faults.fired["http-slow"] >= 1


def test_a_feed_that_takes_long_to_count_holds_one_thread(client, net, monkeypatch):
    checks, fan = client.application.extensions["gapless"].checks, net.account("fan").did
    counting, may_end = threading.Event(), threading.Event()
    really, asked = feed_check._count, []

    def count_slowly(*about):
        asked.append(about)
        counting.set()
        assert may_end.wait(10)
        return really(*about)

    before = checks.answer(fan, WINDOW)
    assert before.kind == "shown"
    monkeypatch.setattr(feed_check, "_count", count_slowly)
    monkeypatch.setattr(feed_check, "COUNTED_S", -1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(in_thread, checks.answer, fan)
        assert counting.wait(10)
        try:
            assert pool.submit(in_thread, checks.answer, fan).result(5) is before
            checks._kept[fan].answer = None
            assert pool.submit(in_thread, checks.answer, fan).result(5).kind == "busy"
        finally:
            may_end.set()
        assert first.result(5) == before
    assert len(asked) == 1


def test_a_database_that_does_not_answer_is_not_the_askers_fault(client, net, monkeypatch):
    def fail(*_):
        raise DatabaseError("gone")

    monkeypatch.setattr(current(), "execute_sql", fail)
    assert "We cannot look just now." in ask(client, net.account("fan").did, 503)
