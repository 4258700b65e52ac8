"""`forget`: delete what we hold about a viewer who asks for it."""

import dataclasses
import json
from argparse import ArgumentParser, Namespace

from server.commands.accounts import find_did
from server.commands.command import DONE, Command
from server.commands.schema import open_as_it_is
from server.core.config import Config
from server.core.errors import ConfigError
from server.storage.forget import forget


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT", help="a DID or a handle")
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def _run(config: Config, arguments: Namespace) -> int:
    open_as_it_is(config, read_only=False)
    did = find_did(config, arguments.account)
    gone = forget(did)
    if gone is None:
        raise ConfigError([f"nothing is known about {did}"])
    if arguments.json:
        print(json.dumps({"did": did, **dataclasses.asdict(gone)}))
        return DONE
    print(f"{did}: {'' if gone.was_viewer else 'was no viewer; '}{gone.follows} follows deleted")
    if gone.is_author:
        print("Somebody here follows the account, so its public posts stay in their feeds.")
    else:
        print(f"Nobody here follows the account: its {gone.items} items were deleted as well.")
    print("Backups made before still have it; so have web processes' memories for ten minutes.")
    return DONE


COMMAND = Command("forget", "delete what we hold about a viewer", _run, _add_arguments)
