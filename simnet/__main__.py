"""`python -m simnet`: a lively network until SIGTERM. Prints one JSON line with all addresses."""

import _thread
import argparse
import json
import signal
import sys
import threading
from typing import Any

from simnet.network import DEFAULT_RATE_LIMIT, Network
from simnet.traffic import Traffic


def main(argv: list[str] | None = None) -> int:
    """Run until a signal."""
    options = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In another thread: this one may hold the lock of `stop` at that moment.
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
    with Network(options.seed, pds=options.pds, rate_limit=options.rate_limit) as network:
        traffic = Traffic(network, options.seed, options.accounts)
        traffic.write_history(options.accounts * 8, days=5)
        print(json.dumps(_addresses(network, traffic)), flush=True)
        thread = traffic.start(options.rate, stop) if options.rate > 0 else None
        stop.wait()
        if thread is not None:
            thread.join()
    return 0


def _addresses(network: Network, traffic: Traffic) -> dict[str, Any]:
    return {
        "plc": network.plc.url,
        "pds": [pds.url for pds in network.pds],
        "pds_streams": [pds.stream_url for pds in network.pds],
        "relay": network.relay.url,
        "environment": network.environment(traffic.viewer),
        "accounts": [
            {
                "handle": person.handle,
                "did": person.did,
                "password": person.state.password,
                "pds": person.pds.index,
            }
            for person in traffic.people
        ],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simnet", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accounts", type=int, default=12)
    parser.add_argument("--pds", type=int, default=2, help="how many hosts they live on")
    parser.add_argument("--rate", type=float, default=5, help="happenings a second; 0 is silence")
    parser.add_argument("--rate-limit", type=int, default=DEFAULT_RATE_LIMIT)
    return parser


if __name__ == "__main__":
    sys.exit(main())
