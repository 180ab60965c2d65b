"""A process of a cluster: its log is a file, and it is started again when it ends by itself."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from zaqar_notify.errors import StartRefused

START_SECONDS = 30
AGAIN_SECONDS = 2.0
"""Before a process that ended is started again."""

_LOOK_SECONDS = 0.05
_LOG_LINES = 8
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Process:
    """One of the cluster's processes, or its successor."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environ: Mapping[str, str] | None = None,
        describes: str = "",
    ) -> None:
        """Prepare to run `command`.

        Args:
            log: Everything that it prints is added here.
            environ: Its whole environment; None: this process's.
            describes: Its role, in a few words for people.
        """
        self.name = name
        self.log = log
        self.describes = describes
        self.pid = 0
        self._command = [str(word) for word in command]
        self._environ = None if environ is None else dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ,
                # Ctrl-C reaches all processes of a terminal; these are told when their turn comes.
                start_new_session=True,
                # Safe beside threads: it only calls the kernel.
                preexec_fn=_end_with_parent,
            )
        self.pid = self._process.pid

    async def wait_until(self, answers: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it does its work.

        Raises:
            StartRefused: It has ended instead, or takes too long.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await answers():
                    if self._process is not None and self._process.poll() is not None:
                        raise StartRefused(f"{self.name} {self._ending()}; {self._last_words()}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise StartRefused(
                f"{self.name} gives no answer within {START_SECONDS} seconds; {self._last_words()}"
            ) from None

    def keep(self) -> None:
        """From now on start it again when it ends, saying so."""
        self._keeper = asyncio.create_task(self._keep_running())

    async def stop(self, within_seconds: float) -> bool:
        """End it with SIGTERM, or after that time with SIGKILL; whether it ended in time."""
        self._stopping.set()
        if self._keeper is not None:
            await self._keeper
        process = self._process
        if process is None or process.poll() is not None:
            return True
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_seconds):
                await _end_of(process)
        except TimeoutError:
            # With its children: it may not have had the time to end them.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        return True

    async def _keep_running(self) -> None:
        while (process := self._process) is not None:
            if await self._is_stopped_before(_end_of(process)):
                return
            print(f"{self.name} {self._ending()}; it is started again", flush=True)
            if await self._is_stopped_before(asyncio.sleep(AGAIN_SECONDS)):
                return
            self.start()
            print(f"{self.name} is process {self.pid} now", flush=True)

    async def _is_stopped_before(self, happens: Awaitable[None]) -> bool:
        happening = asyncio.ensure_future(happens)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((happening, stopping), return_when=asyncio.FIRST_COMPLETED)
        happening.cancel()
        stopping.cancel()
        return self._stopping.is_set()

    def _ending(self) -> str:
        code = None if self._process is None else self._process.poll()
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"has ended with exit code {code}"

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n  ".join([f"the end of {self.log}:", *lines])


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()


def _end_with_parent() -> None:
    """In the child: should this program be killed, nothing of it must go on."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
