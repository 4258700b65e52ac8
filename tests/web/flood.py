"""A flood of made-up issuers, in a process of its own: see `main`.

`python -m tests.web.flood PORT TARGET AUD COUNT`. Each request has a well-formed token of another
did:plc that nobody has, over a few connections that are kept, RATE in a second: more, and it would
be seen who has more cores. Prints how many answers there were of each status, as JSON.
"""

import base64
import http.client
import json
import secrets
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

CONNECTIONS = 8
RATE = 250
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def made_up_token(aud: str) -> str:
    now = int(time.time())
    payload = {
        "iss": "did:plc:" + "".join(secrets.choice(LETTERS) for _ in range(24)),
        "aud": aud,
        "lxm": "app.bsky.feed.getFeedSkeleton",
        "iat": now,
        "exp": now + 60,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256K", "typ": "JWT"}, payload)]
    parts.append(secrets.token_bytes(64))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def send(port: int, target: str, aud: str, count: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * CONNECTIONS / RATE - time.monotonic()))
        connection.request("GET", target, headers={"Authorization": f"Bearer {made_up_token(aud)}"})
        response = connection.getresponse()
        response.read()
        statuses[response.status] += 1
    connection.close()
    return statuses


def main() -> None:
    port, target, aud, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        each = count // CONNECTIONS
        sent = [pool.submit(send, port, target, aud, each) for _ in range(CONNECTIONS)]
        total = sum((one.result() for one in sent), Counter())
    sys.stdout.write(json.dumps(total))


if __name__ == "__main__":
    main()
