"""Pictures of feeds: uploaded when they change, and what their bytes say they are."""

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
JPEG = b"\xff\xd8\xff\xe0" + b"picture"


def test_an_avatar_is_uploaded_once_and_again_when_it_changes(pds, command):
    path = command.avatars / "following.png"
    path.write_bytes(PNG)
    command("publish")
    command("publish")
    path.write_bytes(PNG + b" retouched")
    assert command("check").code == 1
    command("publish")

    uploads = [body for nsid, body in pds.calls if nsid == "com.atproto.repo.uploadBlob"]
    assert uploads == [PNG, PNG + b" retouched"]
    stored = pds.records["following"]["avatar"]
    assert pds.blobs[stored["ref"]["$link"]] == PNG + b" retouched"
    assert "avatar" not in pds.records["everything"]


def test_an_avatar_is_what_its_bytes_say(pds, command):
    (command.avatars / "following.png").write_bytes(JPEG)
    command("publish")
    assert pds.records["following"]["avatar"]["mimeType"] == "image/jpeg"


def test_an_avatar_that_the_pds_stores_as_something_else_is_not_published(pds, command):
    (command.avatars / "following.png").write_bytes(PNG)
    pds.blob_type = "*/*"

    outcome = command("publish", "following")

    assert outcome.code == 1
    assert "stored the avatar as */*" in outcome.err
    assert pds.records == {}
