"""The pages as a person meets them: in a real browser, by mouse or keyboard, seen or heard."""

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from feeds import FEEDS
from tests.browser.axe import NotToBeHad, axe_source
from tests.system.waiting import wait_until

PATHS = ("/", "/status", "/check")
PHONE, NARROW = 390, 320
ALL_CHARTS = "document.querySelectorAll('svg.chart path.line').length === 3"

CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()


def read(page, place, path):
    page.goto(place.url(path))
    return page.text()


def test_the_front_page_says_what_there_is_and_how_it_is(page, place):
    text = read(page, place, "/")
    assert "Feeds are up to date" in text
    for feed in FEEDS:
        assert feed.display_name in text
        link = f"https://bsky.app/profile/{place.publisher.did}/feed/{feed.rkey}"
        assert page.evaluate(f"!!document.querySelector('a[href=\"{link}\"]')")
    pictures = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert page.evaluate(pictures)


def test_nothing_is_loaded_from_anywhere_else(page, place):
    for path in PATHS:
        read(page, place, path)
    assert page.requests
    assert all(url.startswith((place.url("/"), "data:")) for url in page.requests)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_says_all_of_it_without_javascript(page, place, path):
    with_scripts = read(page, place, path)
    page.switch_scripts_off()
    without = read(page, place, path)
    for heading in ("Feeds are up to date", *(["Sources"] if path == "/status" else [])):
        assert heading in with_scripts
        assert heading in without
    # A button that only a script could answer is not shown.
    assert "Stop refreshing" not in without


def test_the_form_works_without_javascript(page, place):
    page.switch_scripts_off()
    read(page, place, "/check")
    page.evaluate("document.getElementById('account').focus()")
    page.type(place.viewer.did)
    page.press("Enter", "\r", submits=True)
    assert f"The feed of {place.viewer.did}" in page.text()


def test_status_refreshes_itself_and_keeps_the_focus(page, place):
    read(page, place, "/status")
    page.evaluate("document.querySelector('#numbers dl').dataset.old = 'yes'")
    page.evaluate("document.querySelector('nav a').focus()")
    page.wait_for("!document.querySelector('#numbers dl').dataset.old", 40)
    assert page.evaluate("document.activeElement === document.querySelector('nav a')")
    # The first numbers of a service that has just begun come after a while, and by themselves.
    page.wait_for(ALL_CHARTS, 60)


def test_refreshing_stops_when_somebody_says_so(page, place):
    read(page, place, "/status")
    page.evaluate("document.getElementById('refresh-switch').click()")
    assert "This page stands still." in page.text()
    assert page.text("#refresh-switch") == "Refresh again"
    before = len(page.requests)
    until = time.monotonic() + 12
    wait_until(lambda: page.evaluate("1") and time.monotonic() > until, 15, "twelve seconds pass")
    assert len(page.requests) == before


def test_a_page_that_cannot_be_refreshed_says_so_and_stays(page, place):
    read(page, place, "/status")
    page.send(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    page.wait_for("document.body.innerText.includes('Could not be refreshed')", 40)
    assert "Sources" in page.text()
    # That it was cut off is in the console as well, as it should be.
    page.trouble.clear()


def test_a_feed_is_watched_while_it_is_built(page, place):
    newcomer = place.net.create_account("newcomer")
    for number in range(6):
        # Nobody has followed them before, and their server is slow.
        newcomer.follow(place.net.create_account(f"slow{number}", pds=1), emit=False)
    place.like(newcomer)
    place.net.faults.arm("http-slow", times=None, where={"host": "pds1"}, delay_s=2.0)
    try:
        place.open_feed(newcomer)
        text = read(page, place, f"/check?account={newcomer.did}")
        assert "is being" in text or "is nearly complete" in text
        bar = "document.querySelector('progress')"
        assert page.evaluate(f"!!({bar}.labels.length || {bar}.ariaLabel)")
    finally:
        place.net.faults.disarm()
    assert place.net.faults.fired["http-slow"]
    # Without being loaded again: it refreshes itself.
    loads = [url for url in page.requests if "/check" in url]
    page.wait_for("document.body.innerText.includes('is complete')", 60)
    assert not page.evaluate("!!document.querySelector('progress')")
    assert len([url for url in page.requests if "/check" in url]) > len(loads)


def test_somebody_who_likes_nothing_is_told_nothing(page, place):
    silent = read(page, place, f"/check?account={place.silent.did}")
    stranger = read(page, place, f"/check?account={place.stranger.did}")
    assert "Nothing is told about" in silent
    assert silent.replace(place.silent.did, "") == stranger.replace(place.stranger.did, "")


def test_a_wrong_handle_is_explained_beside_the_field(page, place):
    text = read(page, place, "/check?account=no+handle")
    assert "That is no handle." in text
    field = "document.getElementById('account')"
    described = f"{field}.getAttribute('aria-describedby').split(' ')"
    assert page.evaluate(f"{described}.every(id => document.getElementById(id))")
    assert page.evaluate(f"{field}.ariaInvalid") == "true"
    assert page.evaluate(f"{field}.value") == "no handle"
    # The console notes the status 400.
    page.trouble.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_text_can_be_read_in_light_and_in_dark(page, place, path, dark):
    page.shape(1000, 800, dark=dark)
    read(page, place, path)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert [found for found in contrasts if found[1] < 4.5] == []


@pytest.mark.parametrize("width", [PHONE, NARROW])
@pytest.mark.parametrize("path", [*PATHS, "/check?account=VIEWER"])
def test_a_phone_scrolls_down_only(page, place, path, width):
    page.shape(width, 800, phone=True)
    read(page, place, path.replace("VIEWER", place.viewer.did))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", PATHS)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(page, place, path):
    read(page, place, path)
    controls = "a[href], button:not([hidden]), input, [tabindex='0']"
    wanted = page.evaluate(f'document.querySelectorAll("{controls}").length')
    reached = []
    for _ in range(wanted):
        page.press("Tab")
        reached.append(
            page.evaluate(
                "(e => [e.outerHTML.slice(0, 90), getComputedStyle(e).outlineStyle,"
                " parseFloat(getComputedStyle(e).outlineWidth), e.getBoundingClientRect().left])"
                "(document.activeElement)"
            )
        )
    assert len({element for element, *_ in reached}) == wanted
    assert "Skip to the content" in reached[0][0]
    for element, style, width, left in reached:
        assert style == "solid", element
        assert width >= 2, element
        assert left >= 0, element


@pytest.mark.parametrize("path", [*PATHS, "/check?account=VIEWER"])
def test_a_screen_reader_is_told_what_everything_is(page, place, path):
    read(page, place, path.replace("VIEWER", place.viewer.did))
    if path == "/status":
        page.wait_for(ALL_CHARTS, 60)
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    said = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    for role, name in said:
        if role in ("link", "button", "textbox", "progressbar", "img", "image", "region", "table"):
            assert name or role == "table", (role, said)
    roles = [role for role, _ in said]
    assert roles.count("main") == 1
    assert roles.count("navigation") == 1
    headings = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert page.evaluate("document.documentElement.lang") == "en"
    names = [name for role, name in said if role == "link"]
    assert len(set(names)) == len(names), "two links of one name"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    if path == "/status":
        charts = [name for role, name in said if role in ("img", "image")]
        assert any("Seconds behind the network in the last" in name for name in charts), charts


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", [*PATHS, "/check?account=VIEWER"])
def test_the_checker_that_others_use_finds_nothing(page, place, path, dark):
    try:
        source = axe_source()
    except NotToBeHad as reason:
        pytest.skip(str(reason))
    page.shape(PHONE if dark else 1000, 800, dark=dark)
    read(page, place, path.replace("VIEWER", place.viewer.did))
    page.evaluate(f"{source}; 1")
    found = page.evaluate("axe.run().then(r => ({bad: r.violations, good: r.passes.length}))")
    assert found["good"] > 15
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found["bad"]] == []


def test_status_json_is_what_the_page_shows(page, place):
    read(page, place, "/status")
    said = json.loads(page.evaluate("fetch('/status.json').then(r => r.text())"))
    assert said["problem"] is None
    assert said["sources"][0]["host"] in page.text()
