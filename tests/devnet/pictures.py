"""Posts with a picture, whose blob the PDS wants first."""

from __future__ import annotations

import base64
from typing import Any

from tests.devnet.client import TIMEOUT_S, Account

# The smallest picture there is.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def with_picture(account: Account, record: dict[str, Any]) -> dict[str, Any]:
    """The post with a picture, beside what it quotes if it does; to be written before long."""
    response = account.network.http.post(
        f"{account.network.info['pds']}/xrpc/com.atproto.repo.uploadBlob",
        data=PIXEL,
        headers={"content-type": "image/png", "authorization": f"Bearer {account.token}"},
        timeout=TIMEOUT_S,
    )
    response.raise_for_status()
    images = [{"alt": "", "image": response.json()["blob"]}]
    media: dict[str, Any] = {"$type": "app.bsky.embed.images", "images": images}
    if "embed" in record:
        quoted = record["embed"]["record"]
        kind = "app.bsky.embed.recordWithMedia"
        return record | {"embed": {"$type": kind, "record": {"record": quoted}, "media": media}}
    return record | {"embed": media}
