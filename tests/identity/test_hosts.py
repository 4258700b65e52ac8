"""How a host in trouble is treated."""

import threading

import pytest

from server.core.errors import FetchFailed
from server.identity.hosts import BREAKER_FAILURES, BREAKER_MAX_S, MAX_REST_S, HostTable

HOST = "pds.example.com"


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def hosts(now):
    return HostTable(2, lambda: now[0])


def fail(hosts, times=1):
    for _ in range(times):
        with hosts.visit(HOST, 1) as visit:
            visit.failed()


def is_refused(hosts, name=HOST) -> float | None:
    try:
        with hosts.visit(name, 0):
            return None
    except FetchFailed as error:
        return error.retry_after_s


def test_a_host_that_keeps_failing_is_left_alone_for_longer_each_time(hosts, now):
    fail(hosts, BREAKER_FAILURES - 1)
    assert is_refused(hosts) is None
    fail(hosts)
    for pause_s in (1, 2, 4, 8, 16, 32, BREAKER_MAX_S, BREAKER_MAX_S):
        assert is_refused(hosts) == pytest.approx(pause_s)
        now[0] += pause_s
        fail(hosts)
    assert is_refused(hosts, "other.example.com") is None


def test_a_refusal_names_the_host(hosts):
    fail(hosts, BREAKER_FAILURES)
    with (
        pytest.raises(FetchFailed, match=r"pds\.example\.com failed 5 times"),
        hosts.visit(HOST, 0),
    ):
        pass


def test_one_success_closes_the_breaker(hosts, now):
    fail(hosts, BREAKER_FAILURES)
    now[0] += 1
    with hosts.visit(HOST, 0) as visit:
        visit.answered()
    fail(hosts, BREAKER_FAILURES - 1)
    assert is_refused(hosts) is None


def test_only_one_probe_goes_to_a_host_that_may_be_back(hosts, now):
    fail(hosts, BREAKER_FAILURES)
    now[0] += 1
    with hosts.visit(HOST, 0) as probe:
        assert is_refused(hosts) is not None
        probe.answered()
    assert is_refused(hosts) is None


def test_a_probe_that_ends_without_a_word_lets_the_next_one_try(hosts, now):
    fail(hosts, BREAKER_FAILURES)
    now[0] += 1
    for _ in range(2):
        with pytest.raises(RuntimeError), hosts.visit(HOST, 0):
            raise RuntimeError


def test_a_host_rests_for_as_long_as_it_wishes_but_not_for_ever(hosts, now):
    with hosts.visit(HOST, 0) as visit:
        visit.answered()
        visit.rest(30)
    assert is_refused(hosts) == pytest.approx(30)
    now[0] += 30
    with hosts.visit(HOST, 0) as visit:
        visit.rest(10**9)
    now[0] += MAX_REST_S
    assert is_refused(hosts) is None


def test_visits_at_once_are_bounded_and_waited_for(hosts):
    with hosts.visit(HOST, 0), hosts.visit(HOST, 0):
        with pytest.raises(FetchFailed, match="under way"), hosts.visit(HOST, 0.01):
            pass
        assert is_refused(hosts, "other.example.com") is None
    with hosts.visit(HOST, 0), hosts.visit(HOST, 0):
        pass


def test_a_caller_that_waited_learns_what_happened_meanwhile(hosts):
    outcome = []

    def wait():
        try:
            with hosts.visit(HOST, 5):
                outcome.append("visited")
        except FetchFailed as error:
            outcome.append(str(error))

    with hosts.visit(HOST, 0) as first, hosts.visit(HOST, 0):
        waiting = threading.Thread(target=wait)
        waiting.start()
        first.rest(30)
    waiting.join(5)
    assert len(outcome) == 1
    assert "asked us to wait" in outcome[0]


def test_the_table_is_bounded_and_keeps_hosts_that_are_visited(hosts, monkeypatch):
    monkeypatch.setattr("server.identity.hosts.MAX_HOSTS", 10)
    with hosts.visit(HOST, 0), hosts.visit(HOST, 0):
        for number in range(50):
            with hosts.visit(f"h{number}.example.com", 0):
                pass
        assert len(hosts._hosts) == 10
        with pytest.raises(FetchFailed), hosts.visit(HOST, 0):
            pass
