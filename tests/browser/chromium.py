"""A headless Chromium, led by its DevTools protocol over the `websockets` that simnet needs anyway.

Only this machine is reachable for it: every name but localhost is unknown to it.
"""

import base64
import http.client
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.system.waiting import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS, ANSWER_SECONDS = 30.0, 15.0
FLAGS = (
    "--headless=new",
    # Containers rarely grant what its sandbox needs, and it sees nothing but our own pages.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def installed() -> str | None:
    """The browser's program; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `trouble` collects what its console complains about: errors and refused loads."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._loads = 0
        self.trouble: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := self._receive()).get("id") != number:
            pass
        assert "error" not in message, f"{method}: {message}"
        result: dict[str, Any] = message["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=ANSWER_SECONDS))
        match message.get("method"):
            case "Page.loadEventFired":
                self._loads += 1
            case "Runtime.exceptionThrown":
                self.trouble.append(str(message["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] in ("error", "warning"):
                    self.trouble.append(f"{entry['text']} {entry.get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return message

    def goto(self, url: str) -> None:
        """Load a page, whole."""
        self._until_loaded(lambda: self.send("Page.navigate", url=url))

    def _until_loaded(self, act: Any) -> None:
        before = self._loads
        act()
        while self._loads == before:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, a promise's included."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return str(
            self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        )

    def wait_for(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until an expression holds."""
        wait_until(lambda: self.evaluate(expression), seconds, f"{expression}\n{self.text()}")

    def press(self, key: str, text: str = "", *, submits: bool = False) -> None:
        """Press a key, as `KeyboardEvent.key` names it; `submits`: it loads another page."""
        codes = {"Tab": 9, "Enter": 13}
        key_of = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}

        def act() -> None:
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **key_of)
            self.send("Input.dispatchKeyEvent", type="keyUp", **key_of)

        self._until_loaded(act) if submits else act()

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self.send("Input.insertText", text=text)

    def shape(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """The window's size, and what the reader prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def switch_scripts_off(self) -> None:
        """From the next load on."""
        self.send("Emulation.setScriptExecutionDisabled", value=True)

    def picture(self, width: int, max_height: int = 4000) -> bytes:
        """The page as PNG, from its top."""
        height = int(self.evaluate("document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, max_height), "scale": 1}
        found = self.send(
            "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
        )
        return base64.b64decode(found["data"])


class Chromium:
    """A running browser with a profile of its own that is gone afterwards."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab."""
        address = ("127.0.0.1", self._port)
        with closing(http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)) as connection:
            connection.request("PUT", "/json/new?about:blank")
            target = json.load(connection.getresponse())
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            page = Page(socket)
            yield page
            page.send("Page.close")


@contextmanager
def chromium(program: str) -> Iterator[Chromium]:
    """Start a browser, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="gapless-chromium-"))
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = folder / "DevToolsActivePort"

        def port() -> int | None:
            lines = port_file.read_text().split() if port_file.exists() else []
            return int(lines[0]) if len(lines) > 1 else None

        yield Chromium(wait_until(port, START_SECONDS, "Chromium opens its port") or 0)
    finally:
        process.terminate()
        process.wait(ANSWER_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
