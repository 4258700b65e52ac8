"""What `publish`, `check`, `list` and `remove` do to the records of an account."""

import dataclasses

import pytest

from feeds import FEEDS
from tests.publish.pds import Pds

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
RKEYS = [feed.rkey for feed in FEEDS]


def test_first_publish_creates_a_record_for_every_feed(pds, command):
    outcome = command("publish")

    assert outcome.code == 0, outcome.err
    assert list(pds.records) == RKEYS
    for feed in FEEDS:
        record = dict(pds.records[feed.rkey])
        assert record.pop("createdAt").endswith("Z")
        assert record == {
            "$type": "app.bsky.feed.generator",
            "did": "did:web:feeds.example.com",
            "displayName": feed.display_name,
            "description": feed.description,
            **({"acceptsInteractions": True} if feed.oldest_first else {}),
        }


def test_only_feeds_that_want_to_know_what_was_seen_ask_for_it(pds, command):
    command("publish")
    pds.records["following"]["acceptsInteractions"] = True
    del pds.records["catch-up"]["acceptsInteractions"]

    assert command("publish").code == 0

    asking = [rkey for rkey, record in pds.records.items() if record.get("acceptsInteractions")]
    assert asking == ["catch-up"]


def test_publish_prints_where_each_feed_is(pds, command):
    out = command("publish").out

    for rkey in RKEYS:
        assert f"at://{pds.did}/app.bsky.feed.generator/{rkey}\n" in out
        assert f"https://bsky.app/profile/{pds.did}/feed/{rkey}\n" in out


def test_publishing_again_sends_nothing(pds, command):
    command("publish")
    pds.calls.clear()

    outcome = command("publish")

    assert outcome.code == 0
    assert outcome.out.count("unchanged") == len(FEEDS)
    assert pds.writes == []


def test_only_the_feeds_that_are_named_are_published(pds, command):
    assert command("publish", "everything").code == 0
    assert list(pds.records) == ["everything"]


def test_an_update_keeps_what_is_not_ours(pds, command):
    avatar = {"$type": "blob", "ref": {"$link": "bafkreiold"}, "mimeType": "image/png", "size": 3}
    pds.blobs["bafkreiold"] = b"old"
    command("publish", "following")
    before = dict(pds.records["following"])
    pds.records["following"] |= {
        "createdAt": "2024-02-03T04:05:06.000Z",
        "avatar": avatar,
        "contentMode": "app.bsky.feed.defs#contentModeUnspecified",
        "somethingNew": {"deep": [1, None, {"$link": "x"}]},
        "displayName": "An old name",
    }
    kept = dict(pds.records["following"])

    assert command("publish", "following").code == 0

    assert pds.records["following"] == kept | {"displayName": before["displayName"]}


def test_an_update_names_the_version_it_replaces(pds, command):
    command("publish", "following")
    first = pds._stored("following")["cid"]
    command("publish", "following", FEED_HOSTNAME="moved.example.com")

    assert [body["swapRecord"] for _, body in pds.writes] == [None, first]
    assert pds.records["following"]["did"] == "did:web:moved.example.com"


def test_facets_go_with_the_description_they_were_written_for(pds, command):
    command("publish", "following", "everything")
    for rkey in ("following", "everything"):
        pds.records[rkey]["descriptionFacets"] = [{"index": {"byteStart": 0, "byteEnd": 3}}]
    pds.records["following"]["description"] = "See you"

    assert command("publish").code == 0

    assert "descriptionFacets" not in pds.records["following"]
    assert "descriptionFacets" in pds.records["everything"]


def test_a_record_changed_meanwhile_is_read_again_and_keeps_the_change(pds, command):
    command("publish", "following")
    pds.records["following"]["displayName"] = "An old name"
    pds.before["com.atproto.repo.putRecord"] = [lambda: pds.records["following"].update(note="new")]

    outcome = command("publish", "following")

    assert outcome.code == 0
    assert "somebody else" in outcome.out
    assert pds.records["following"]["note"] == "new"
    assert pds.records["following"]["displayName"] == "Following, gapless"


def test_a_record_created_meanwhile_is_not_overwritten_blindly(pds, command):
    other = {"$type": "app.bsky.feed.generator", "did": "did:web:x.example.com", "note": "kept"}
    pds.before["com.atproto.repo.putRecord"] = [
        lambda: pds.records.update(following=dict(other, createdAt="2020-01-01T00:00:00Z"))
    ]

    assert command("publish", "following").code == 0
    assert pds.records["following"]["note"] == "kept"
    assert pds.records["following"]["createdAt"] == "2020-01-01T00:00:00Z"


def test_a_record_that_keeps_changing_is_given_up(pds, command):
    command("publish", "following")
    pds.records["following"]["displayName"] = "An old name"
    changes = iter(range(9))
    pds.before["com.atproto.repo.putRecord"] = [
        lambda: pds.records["following"].update(change=next(changes))
    ] * 2

    outcome = command("publish", "following")

    assert outcome.code == 1
    assert "somebody else" in outcome.err
    assert pds.records["following"]["displayName"] == "An old name"
    assert next(changes) == 2


@pytest.mark.parametrize("word", ["check", "diff"])
def test_check_fails_on_a_difference_and_writes_nothing(pds, command, word):
    command("publish")
    pds.records["following"]["displayName"] = "An old name"
    pds.calls.clear()

    outcome = command(word)

    assert outcome.code == 1
    assert "displayName: 'An old name' -> 'Following, gapless'" in outcome.out
    assert outcome.out.count("unchanged") == len(FEEDS) - 1
    assert pds.writes == []


def test_check_passes_after_publishing(pds, command):
    command("publish")
    assert command("check").code == 0


def test_check_fails_when_nothing_is_published(pds, command):
    assert command("check").code == 1
    assert pds.writes == []


def test_a_dry_run_writes_nothing(pds, command):
    (command.avatars / "following.png").write_bytes(PNG)

    outcome = command("publish", "--dry-run")

    assert outcome.code == 0
    assert outcome.out.count("to create") == len(FEEDS)
    assert (pds.records, pds.blobs) == ({}, {})


@pytest.mark.parametrize("word", ["remove", "unpublish"])
def test_remove_deletes_only_what_is_named(pds, command, word):
    command("publish")
    outcome = command(word, "following", "never-there")

    assert outcome.code == 0
    assert "following: removed" in outcome.out
    assert "never-there: not there" in outcome.out
    assert list(pds.records) == [rkey for rkey in RKEYS if rkey != "following"]


def test_remove_all_leaves_the_feeds_of_others_alone(pds, command):
    command("publish")
    pds.records["by-another-program"] = {"did": "did:web:x.example.com"}
    assert command("remove", "--all").code == 0
    assert list(pds.records) == ["by-another-program"]


def test_a_dry_run_removes_nothing(pds, command):
    command("publish")
    assert "would be removed" in command("remove", "--all", "--dry-run").out
    assert len(pds.records) == len(FEEDS)


def test_remove_does_not_delete_a_record_changed_meanwhile(pds, command):
    command("publish", "following")
    pds.before["com.atproto.repo.deleteRecord"] = [
        lambda: pds.records["following"].update(displayName="Rescued")
    ]
    outcome = command("remove", "following")
    assert outcome.code == 1
    assert "somebody else" in outcome.err
    assert pds.records["following"]["displayName"] == "Rescued"


def test_list_shows_every_record_over_all_pages(pds, command):
    command("publish")
    pds.records["by-another-program"] = {"did": "did:web:x.example.com", "displayName": "Else"}
    pds.page = 1

    out = command("list").out

    assert "following: 'Following, gapless' at did:web:feeds.example.com\n" in out
    assert "'Else' at did:web:x.example.com, another service, not in feeds/" in out
    assert f"{len(FEEDS) + 1} feed records of {pds.handle} ({pds.did})" in out


def test_records_are_written_where_the_account_really_lives(pds, command):

    with Pds(repo_endpoint=pds.url, password=pds.password, token=pds.token) as entryway:
        outcome = command("publish", PUBLISH_PDS_URL=entryway.url)

        assert outcome.code == 0, outcome.err
        assert entryway.records == {}
        assert list(pds.records) == RKEYS


def test_a_feed_that_left_the_folder_can_still_be_removed(pds, command):
    command("publish")
    command.feeds = [feed for feed in FEEDS if feed.rkey != "following"]
    assert command("remove", "following").code == 0
    assert "following" not in pds.records


def test_a_local_trial_publishes_to_a_private_network(pds, command):
    assert command("publish", FEED_HOSTNAME="", PORT="8123").code == 0
    assert pds.records["following"]["did"] == "did:web:localhost%3A8123"


def test_labels_and_a_content_mode_are_said_where_a_feed_has_them(pds, command):
    command("publish", "following")
    plain = dict(pds.records["following"])
    assert not {"labels", "contentMode"} & plain.keys()
    feed = dataclasses.replace(FEEDS[0], is_video=True, labels=("nudity", "spoiler"))
    command.feeds = [feed]
    assert command("publish").code == 0
    said = {
        "labels": {
            "$type": "com.atproto.label.defs#selfLabels",
            "values": [{"val": "nudity"}, {"val": "spoiler"}],
        },
        "contentMode": "app.bsky.feed.defs#contentModeVideo",
    }
    assert pds.records["following"] == plain | said
    # What feeds/ does not name may have been set by hand.
    command.feeds = [FEEDS[0]]
    assert command("publish").code == 0
    assert pds.records["following"] == plain | said


def test_a_changed_name_is_the_only_thing_that_changes(pds, command):
    command("publish")
    before = dict(pds.records["following"])
    command.feeds = [dataclasses.replace(FEEDS[0], display_name="Now another")]
    assert command("publish").code == 0
    assert pds.records["following"] == before | {"displayName": "Now another"}
