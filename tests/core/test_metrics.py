"""What is counted has labels from fixed sets, whatever strangers call their hosts."""

from prometheus_client import generate_latest

from server.core.metrics import MAX_CANDIDATES, MAX_HOST_LABELS, HostLabels, IngestMetrics


def test_a_host_is_called_by_name_once_it_is_asked_often():
    hosts = HostLabels()
    assert [hosts.label("pds.example.com") for _ in range(11)] == ["other"] * 9 + [
        "pds.example.com"
    ] * 2


def test_the_hosts_of_one_provider_are_one():
    hosts = HostLabels()
    for number in range(10):
        hosts.label(f"n{number}.us-east.host.bsky.network")
    assert hosts.label("n99.eu.host.bsky.network") == "host.bsky.network"
    assert hosts.label("n99.EU.host.bsky.NETWORK") == "host.bsky.network"


def test_an_address_is_not_taken_for_a_name():
    hosts = HostLabels()
    assert {hosts.label("10.1.2.3") for _ in range(10)} == {"other", "10.1.2.3"}


def test_made_up_hosts_cost_a_bounded_number_of_labels_and_memory():
    hosts = HostLabels()
    labels = {hosts.label(f"h{number // 10}.example") for number in range(10_000)}
    assert len(labels) == MAX_HOST_LABELS + 1
    candidates = HostLabels()
    for number in range(MAX_CANDIDATES * 3):
        assert candidates.label(f"h{number}.example") == "other"
    assert len(candidates._visits) <= MAX_CANDIDATES


def test_frames_are_counted_by_kind():
    metrics = IngestMetrics()
    for kind in ("Commit", "Skipped", "Skipped"):
        metrics.count_frames(kind)
    text = generate_latest(metrics.registry).decode()
    assert 'gapless_stream_frames_total{kind="commit"} 1.0' in text
    assert 'gapless_stream_frames_total{kind="skipped"} 2.0' in text
