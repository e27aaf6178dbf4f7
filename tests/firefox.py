"""Firefox without a window, driven by WebDriver BiDi: its own protocol, no driver beside it."""

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
_PATIENCE_S = 60.0
# What a policy blocks is no line of the console by itself.
_TELL_BLOCKED = """() => addEventListener(
    "securitypolicyviolation", event => console.error("blocked: " + event.effectiveDirective)
)"""


class Firefox:
    """A Firefox with a single page; a context manager.

    Parameters
    ----------
    folder : Path
        Where it keeps its profile.
    connect : callable
        Opens a WebSocket: `websocket.create_connection`.

    Attributes
    ----------
    said, asked : list of str
        Lines of its console, and addresses that were asked for, by all pages so far.
    """

    def __init__(self, folder: Path, connect: Callable[..., Any]) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._number = 0
        log = folder / "firefox.log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [
                    *(str(FIREFOX), "--headless", "--no-remote"),
                    *("--profile", str(folder), "--remote-debugging-port=0", "about:blank"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        try:
            address = _until(lambda: _address(log), f"Firefox does not listen; see {log}")
            self._socket = connect(f"{address}/session", timeout=_PATIENCE_S, suppress_origin=True)
            self._ask("session.new", capabilities={})
            self._ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            self._ask("script.addPreloadScript", functionDeclaration=_TELL_BLOCKED)
            self._page = self._ask("browsingContext.create", type="tab")["context"]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> "Firefox":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(Exception):
            self._ask("browser.close")
        self._socket.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a page from disk, and wait until it says that it is ready."""
        # From a page with another fragment it would only move.
        for url in ("about:blank", f"file://{path}{fragment}"):
            self._ask("browsingContext.navigate", context=self._page, url=url, wait="complete")
        self.wait("document.documentElement.dataset.offskyState === 'ready'")

    def value(self, script: str) -> Any:
        """Return what an expression gives in the page."""
        told = self._ask(
            "script.evaluate",
            expression=f"JSON.stringify({script})",
            target={"context": self._page},
            awaitPromise=False,
        )
        if told["type"] != "success":
            raise RuntimeError(told["exceptionDetails"]["text"])
        return json.loads(told["result"].get("value", "null"))

    def wait(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        _until(lambda: self.value(f"Boolean({script})"), f"never true: {script}")

    def press(self, keys: str) -> None:
        """Press keys one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask(
            "input.performActions",
            context=self._page,
            actions=[{"type": "key", "id": "keys", "actions": actions}],
        )

    def _ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv())
            if told.get("id") == self._number:
                if told["type"] == "error":
                    raise RuntimeError(f"{method}: {told['message']}")
                return told["result"]
            if told.get("method") == "log.entryAdded":
                self.said.append(str(told["params"]["text"]))
            if told.get("method") == "network.beforeRequestSent":
                self.asked.append(told["params"]["request"]["url"])


def _address(log: Path) -> str | None:
    found = re.search(r"WebDriver BiDi listening on (ws://\S+)", log.read_text(errors="replace"))
    return None if found is None else found.group(1)


def _until(ask: Callable[[], Any], failure: str) -> Any:
    """Return the first answer that is true."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise TimeoutError(failure)
