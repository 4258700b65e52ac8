"""`doctor`: looks at everything that goes wrong in practice, and says what to do. Changes nothing.

It runs beside the service or without it, on its machine or on another one with the same settings.
Ends with 1 when anything fails; warnings do not.
"""

import dataclasses
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from server.commands import doctor_here
from server.commands.command import DONE, FAILED, Command
from server.commands.doctor_outside import APPVIEW, Outside
from server.commands.findings import FAIL, OK, WARN, Check, Finding
from server.core.config import Config
from server.core.errors import FetchFailed

_MARKS = {OK: "ok  ", WARN: "WARN", FAIL: "FAIL"}

# What to do about who does not answer. These checks ask our own address, as others would.
_ASK_US = ("did document", "description")
_OURS = "is the service running, and does the proxy lead to it?"
_THEIRS = "is that host down, or does a firewall keep us from it? Try again later"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--local", action="store_true", help="ask nobody but this machine")
    parser.add_argument("--appview", metavar="URL", help=f"where apps ask; {APPVIEW} if not given")


def _run(config: Config, arguments: Namespace) -> int:
    checks = doctor_here.checks(config)
    if not arguments.local:
        checks += Outside(config, arguments.appview, doctor_here.cursors(config)).checks()
    found: list[Finding] = []
    for check in checks:
        for finding in look(check):
            found.append(finding)
            if not arguments.json:
                print(told(finding), flush=True)
    failures = sum(finding.verdict == FAIL for finding in found)
    if arguments.json:
        print(json.dumps({"failures": failures, "findings": list(map(dataclasses.asdict, found))}))
    elif failures:
        print(f"{failures} of {len(found)} things are wrong: see above.", file=sys.stderr)
    return FAILED if failures else DONE


def look(check: Check) -> Iterator[Finding]:
    """What a check finds. A peer that does not answer is a finding, and no reason to stop."""
    try:
        yield from check()
    except FetchFailed as error:
        name = getattr(check, "__name__", "look").replace("_", " ")
        yield Finding(name, FAIL, str(error), _OURS if name in _ASK_US else _THEIRS)


def told(finding: Finding) -> str:
    """A finding as a line or two."""
    line = f"{_MARKS[finding.verdict]} {finding.name}: {finding.seen}"
    return f"{line}\n     → {finding.advice}" if finding.advice else line


COMMAND = Command("doctor", "look for what is wrong, and say what to do", _run, _add_arguments)
