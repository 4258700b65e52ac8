"""The commands as a user types them, and the words of the demo."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from simnet import HydratedItem
from simnet.narrator import Narrator

PROJECT = Path(__file__).resolve().parents[2]


def test_the_network_runs_by_itself_until_sigterm():
    command = [sys.executable, "-m", "simnet", "--seed", "1", "--accounts", "3", "--rate", "50"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        told = json.loads(process.stdout.readline())
        did = told["accounts"][0]["did"]
        with urllib.request.urlopen(f"{told['plc']}/{did}", timeout=5) as answer:  # noqa: S310
            assert json.load(answer)["id"] == did
        assert told["environment"]["STREAM_URLS"] == told["relay"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_narrator_names_people_and_says_what_they_did():
    lines = []
    narrator = Narrator(lines.append, {"ida.test": "Ida", "ewan.test": "Ewan"}.get, colours=False)
    post = HydratedItem("at://x", "Hello", "ida.test", "", 0)
    narrator.item(post, late_s=0.25)
    narrator.item(HydratedItem("at://x", "Hello", "ida.test", "", 0, reposted_by="ewan.test"))
    assert "Ida " in lines[0]
    assert lines[0].endswith("Hello  (0.2 s)\n")
    assert "reposts Ida: Hello" in lines[1]
    assert "\033" not in "".join(lines)
