"""The feeds that need more than a filter, from the relay's socket to the app's page."""

from simnet import FeedFailed
from tests.system.waiting import wait_until

SOON_SECONDS = 10.0


def texts(place, viewer, rkey):
    """What is shown; a feed that is not ready shows that."""
    try:
        page = place.net.get_feed(viewer, place.reader.uri(rkey), 100)
    except FeedFailed as failed:
        return [str(failed)]
    return [item.text for item in page.items]


def shows(place, viewer, rkey, *wanted):
    wait_until(
        lambda: texts(place, viewer, rkey) == list(wanted),
        SOON_SECONDS,
        lambda: f"{texts(place, viewer, rkey)}\n{place.service.log_text()}",
    )


def test_mutuals_are_those_who_followed_before_and_those_who_begin_now(place):
    ann, ben = place.net.create_account("ann1"), place.net.create_account("ben1", pds=1)
    viewer = place.viewer("viewer1", ann, ben)
    ann.follow(viewer, emit=False)
    ann.post("by ann")
    ben.post("by ben")
    shows(place, viewer, "mutuals", "by ann")
    ben.follow(viewer)
    shows(place, viewer, "mutuals", "by ben", "by ann")
    ann.unfollow(viewer)
    shows(place, viewer, "mutuals", "by ben")
    shows(place, viewer, "following", "by ben", "by ann")


def test_somebody_followed_anew_is_a_mutual_at_once_if_they_follow_already(place):
    fan = place.net.create_account("fan2")
    viewer = place.viewer("viewer2")
    fan.follow(viewer, emit=False)
    fan.post("by a fan")
    shows(place, viewer, "mutuals")
    viewer.follow(fan)
    shows(place, viewer, "mutuals", "by a fan")


def test_one_loud_voice_is_not_among_the_quiet(place):
    loud, quiet = place.net.create_account("loud3"), place.net.create_account("quiet3")
    for number in range(31):
        loud.post(f"shout {number}")
    quiet.post("hm")
    viewer = place.viewer("viewer3", loud, quiet)
    shows(place, viewer, "quiet", "hm")
    assert len(texts(place, viewer, "following")) == 32
