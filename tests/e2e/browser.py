"""A real browser that reaches nothing but this machine."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.programs import program

NOTHING_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", NOTHING_ELSE)
DEADLINE_SECONDS = 30

_UNTIL = """new Promise((resolve, reject) => {
  const look = () => { if (CONDITION) { resolve(true); return true; } };
  if (look()) return;
  const observer = new MutationObserver(() => look() && observer.disconnect());
  observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
})"""


def shown(url: str, profile: Path) -> str:
    """The page as it stands after its scripts have run. Skips the test without a browser."""
    return subprocess.run(
        [
            program("chromium"),
            *OPTIONS,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=8000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


class Page:
    """An open page, in which a test runs JavaScript."""

    def __init__(self, devtools: aiohttp.ClientWebSocketResponse) -> None:
        self._devtools = devtools
        self._numbers = itertools.count(1)

    async def go_to(self, url: str) -> None:
        """Load another page; its scripts have run at the end."""
        await self._call("Page.enable")
        await self._loaded_by(await self._send("Page.navigate", url=url))

    async def press(self, button: str) -> None:
        """Press a button that loads another page."""
        script = f"document.querySelector({button!r}).click()"
        await self._loaded_by(await self._send("Runtime.evaluate", expression=script))

    async def _loaded_by(self, number: int) -> None:
        waited_for = {number, "Page.loadEventFired"}
        while waited_for:
            event = await self._devtools.receive_json(timeout=DEADLINE_SECONDS)
            waited_for.discard(event.get("id", event.get("method")))

    async def run(self, script: str) -> Any:
        """The value of an expression; of a promise, what it becomes."""
        options = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = await self._call("Runtime.evaluate", **options)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression about the document is true."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.run(_UNTIL.replace("CONDITION", condition))
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"Not yet: {condition}\n{text}") from None

    async def fill(self, selector: str, value: str) -> None:
        await self.run(f"document.querySelector({selector!r}).value = {value!r}")

    async def submit(self, form: str) -> None:
        await self.run(f"document.querySelector({form!r}).requestSubmit()")

    async def _call(self, method: str, **parameters: object) -> Any:
        number = await self._send(method, **parameters)
        while True:
            answer = await self._devtools.receive_json(timeout=DEADLINE_SECONDS)
            if answer.get("id") == number:
                return answer["result"]

    async def _send(self, method: str, **parameters: object) -> int:
        number = next(self._numbers)
        await self._devtools.send_json({"id": number, "method": method, "params": parameters})
        return number


@asynccontextmanager
async def opened(url: str, profile: Path) -> AsyncIterator[Page]:
    """A page that has loaded. Skips the test without a browser."""
    browser = await asyncio.create_subprocess_exec(
        program("chromium"),
        *OPTIONS,
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        "about:blank",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession() as session:
            address = await _address_of(browser)
            async with session.get(f"http://{address}/json/list") as answer:
                [target] = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"]) as devtools:
                page = Page(devtools)
                await page.go_to(url)
                yield page
    finally:
        with suppress(ProcessLookupError):
            browser.kill()
        await browser.wait()


async def _address_of(browser: asyncio.subprocess.Process) -> str:
    """Where the browser is told what to do."""
    assert browser.stderr is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for line in browser.stderr:
            found = re.search(rb"DevTools listening on ws://([^/]+)/", line)
            if found:
                return found[1].decode()
    raise AssertionError("The browser has ended")
