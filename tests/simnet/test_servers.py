"""The HTTP side: directory, reading and writing methods, faults, and the official SDK."""

import http.client
import json

import libipld
import pytest
from atproto import CAR, AtprotoData, Client, DidDocument
from atproto.exceptions import BadRequestError

from simnet import Network

POST = "app.bsky.feed.post"
LIST = "com.atproto.repo.listRecords"


@pytest.fixture
def alice(net):
    return net.create_account("alice")


@pytest.fixture
def client(net, alice):
    client = Client(alice.pds.url)
    client.login(alice.handle, alice.state.password)
    yield client
    client.request._client.close()


def test_the_directory_tells_key_host_and_handle(net, alice, get):
    document = get(net.plc.url, f"/{alice.did}")[1]
    data = AtprotoData.from_did_doc(DidDocument.from_dict(document))
    assert data.handle == alice.handle
    assert data.pds == alice.pds.url
    assert data.signing_key == f"did:key:{alice.state.key.multibase}"


def test_the_directory_tells_unknown_from_gone(net, alice, get):
    assert get(net.plc.url, "/did:plc:unknown")[0] == 404
    alice.delete_account(tombstone=True)
    status, body, _ = get(net.plc.url, f"/{alice.did}")
    assert status == 410
    assert alice.did in body["message"]


def test_a_moved_account_has_another_host_and_key_in_the_directory(net, alice, get):
    before = get(net.plc.url, f"/{alice.did}")[1]
    alice.migrate(1)
    after = get(net.plc.url, f"/{alice.did}")[1]
    assert after["service"][0]["serviceEndpoint"] == net.pds[1].url
    assert after["verificationMethod"] != before["verificationMethod"]


@pytest.mark.parametrize("reverse", ["true", "false"])
def test_pages_of_records_join_to_the_whole_and_end_with_an_empty_one(net, alice, get, reverse):
    refs = [alice.post(str(number), rkey=f"k{number:02d}") for number in range(10)]
    uris, cursor, pages = [], None, 0
    while True:
        query = {"repo": alice.did, "collection": POST, "limit": 5, "reverse": reverse}
        _, page, _ = get(alice.pds.url, LIST, **query, **({"cursor": cursor} if cursor else {}))
        pages += 1
        if not page["records"]:
            break
        uris += [record["uri"] for record in page["records"]]
        cursor = page["cursor"]
    assert pages == 3
    assert uris == sorted((ref.uri for ref in refs), reverse=reverse == "false")
    assert "cursor" not in page


@pytest.mark.parametrize("limit", ["0", "101", "abc", "-1"])
def test_a_limit_out_of_range_is_refused(alice, get, limit):
    status, body, _ = get(alice.pds.url, LIST, repo=alice.did, collection=POST, limit=limit)
    assert (status, body["error"]) == (400, "InvalidRequest")


def test_each_status_has_its_answer(net, alice, get):
    def answers():
        latest = get(alice.pds.url, "com.atproto.sync.getLatestCommit", did=alice.did)[1]
        listing = get(alice.pds.url, LIST, repo=alice.did, collection=POST)[1]
        status = get(alice.pds.url, "com.atproto.sync.getRepoStatus", did=alice.did)[1]
        return latest.get("error"), listing.get("error"), status.get("status", status.get("error"))

    assert answers() == (None, None, None)
    alice.deactivate()
    assert answers() == ("RepoDeactivated", "InvalidRequest", "deactivated")
    alice.takedown()
    assert answers() == ("RepoTakendown", "InvalidRequest", "takendown")
    alice.activate()
    assert answers() == (None, None, None)
    alice.delete_account()
    assert answers() == ("RepoNotFound", "InvalidRequest", "RepoNotFound")


def test_the_whole_repo_comes_as_a_car(alice, get):
    ref = alice.post("inside")
    raw = get(alice.pds.url, "com.atproto.sync.getRepo", did=alice.did)[1]
    car = CAR.from_bytes(raw)
    texts = [block.get("text") for cid, block in car.blocks.items() if str(cid) == ref.cid]
    assert texts == ["inside"]
    assert str(car.root) == alice.state.repo.head.cid.text


def test_the_official_client_writes_reads_and_deletes(net, alice, client):
    sent = client.send_post("from the SDK")
    assert client.get_post(sent.uri.split("/")[-1], alice.did).value.text == "from the SDK"
    assert net.world.lookup(sent.uri).ref.cid == sent.cid
    seq = net.relay.stream.last_seq
    assert client.delete_post(sent.uri)
    assert client.delete_post(sent.uri)
    assert net.relay.stream.last_seq == seq + 1
    assert net.world.lookup(sent.uri) is None


def test_a_put_swaps_only_what_it_expects(net, alice, client):
    did, collection = alice.did, "app.bsky.feed.generator"
    record = {"did": "did:web:x.test", "displayName": "x", "createdAt": "2026-01-01T00:00:00Z"}
    place = {"repo": did, "collection": collection, "rkey": "x"}
    first = client.com.atproto.repo.put_record({**place, "record": record})
    with pytest.raises(BadRequestError) as refused:
        client.com.atproto.repo.put_record({**place, "record": record, "swapRecord": "bafy"})
    assert refused.value.response.content.error == "InvalidSwap"
    changed = {**record, "displayName": "y"}
    second = client.com.atproto.repo.put_record(
        {**place, "record": changed, "swapRecord": first.cid}
    )
    assert second.cid != first.cid
    seq = net.relay.stream.last_seq
    client.com.atproto.repo.put_record({**place, "record": changed})
    assert net.relay.stream.last_seq == seq


# The SDK hands the bytes to httpx in a way that httpx would rather not see.
@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_a_blob_is_named_by_its_bytes_and_typed_by_its_look(client):
    picture = b"\x89PNG\r\n\x1a\n" + bytes(50)
    blob = client.upload_blob(picture).blob
    assert blob.mime_type == "image/png"
    assert blob.size == len(picture)
    assert libipld.decode_cid(blob.ref.link)["codec"] == 0x55


def test_writing_needs_a_login(alice, client):
    connection = http.client.HTTPConnection("127.0.0.1", alice.pds.server.port, timeout=5)
    body = json.dumps({"repo": alice.did, "collection": POST, "record": {"text": "no"}})
    connection.request("POST", "/xrpc/com.atproto.repo.createRecord", body)
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["error"]) == (401, "AuthMissing")
    connection.close()
    with pytest.raises(Exception, match="Invalid identifier or password"):
        client.login(alice.handle, "wrong")


def test_faults_strike_where_they_are_armed_and_are_counted(net, alice, get):
    def listing(**query):
        return get(alice.pds.url, LIST, repo=alice.did, collection=POST, **query)

    alice.post("mine")
    net.create_account("bob").post("not hers")
    net.faults.arm("http-500", times=2, where={"method": LIST})
    assert get(alice.pds.url, "_health")[0] == 200
    assert [listing()[0] for _ in range(3)] == [500, 500, 200]
    net.faults.arm("http-429", retry_after_s=7)
    assert listing()[2]["retry-after"] == "7"
    net.faults.arm("http-garbage")
    with pytest.raises(ValueError, match="Unterminated"):
        listing()
    for name in ("http-drop", "http-cut-body"):
        net.faults.arm(name)
        with pytest.raises((OSError, http.client.HTTPException)):
            listing()
    net.faults.arm("http-huge", size=1_000_000)
    with pytest.raises((ValueError, RecursionError, http.client.IncompleteRead)):
        listing()
    net.faults.arm("list-foreign")
    owners = {record["uri"].split("/")[2] for record in listing()[1]["records"]}
    assert owners - {alice.did}
    net.faults.arm("list-same-cursor")
    first = listing()[1]
    assert listing(cursor=first["cursor"])[1]["records"] == []
    assert net.faults.fired["http-500"] == 2
    once = ("http-429", "http-garbage", "http-drop", "http-cut-body", "http-huge", "list-foreign")
    assert [net.faults.fired[name] for name in once] == [1] * len(once)


def test_an_unknown_fault_cannot_be_armed(net):
    with pytest.raises(ValueError, match="http-418"):
        net.faults.arm("http-418")


def test_a_hanging_server_lets_go_when_the_network_stops():
    network = Network()
    network.start()
    network.faults.arm("http-hang")
    connection = http.client.HTTPConnection("127.0.0.1", network.plc.server.port, timeout=5)
    connection.request("GET", "/did:plc:any")
    while not network.faults.fired["http-hang"]:
        pass
    network.stop()
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


def test_the_rate_limit_is_told_and_kept(get):
    with Network(rate_limit=2) as net:
        told = [get(net.pds[0].url, "_health") for _ in range(3)]
    assert [status for status, _, _ in told] == [200, 200, 429]
    assert [headers["ratelimit-remaining"] for _, _, headers in told] == ["1", "0", "0"]
    assert int(told[2][2]["retry-after"]) > 0
    assert told[0][2]["ratelimit-policy"] == "2;w=300"
