"""A shortage of our own host costs no receiver a try."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sinks.connections import NoAnswer, Origin
from sinks.http import HttpClient
from sinks.shortage import Shortage, is_shortage
from tests.sinks.name_server import serving_names
from tests.sinks.receiver import receiving
from tests.sinks.test_http import REQUEST, http_client


@contextmanager
def no_file_left() -> Iterator[None]:
    """Open as many files as this process may have."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(0)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for file in taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = http_client()
    yield client
    client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-name.invalid"])
async def test_without_a_file_left_it_is_us_and_not_the_receiver(
    client: HttpClient, host: str
) -> None:
    async with receiving() as receiver:
        with no_file_left(), pytest.raises(Shortage):
            await client.post(Origin(False, host, receiver.port), REQUEST, project="p")


async def test_names_are_found_again_when_there_are_files_again() -> None:
    async with receiving() as receiver, serving_names(well_example=["127.0.0.1"]) as server:
        client = http_client(name_servers=[server.place])
        origin = Origin(False, "well.example", receiver.port)
        with no_file_left(), pytest.raises(Shortage):
            await client.post(origin, REQUEST, project="p")

        answer = await client.post(origin, REQUEST, project="p")

        channel = client._resolver._channel
        client.close()
        assert answer.status == 204
        # One that was made without files would not know the host's name servers, then or ever.
        assert channel is not None
        assert channel._event_thread


async def test_with_files_left_a_name_that_is_not_found_is_the_receivers_fault(
    client: HttpClient,
) -> None:
    with pytest.raises(NoAnswer, match="not found"):
        await client.post(Origin(False, "no-such-name.invalid", 80), REQUEST, project="p")


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [
        (OSError(errno.EMFILE, ""), True),
        (OSError(errno.ENFILE, ""), True),
        (OSError(errno.ENOMEM, ""), True),
        (OSError(errno.ENOBUFS, ""), True),
        (socket.gaierror(socket.EAI_MEMORY, ""), True),
        (MemoryError(), True),
        (OSError(errno.ECONNREFUSED, ""), False),
        (OSError("several, in different ways"), False),
        (TimeoutError(), False),
        (ValueError(), False),
    ],
)
def test_what_counts_as_a_shortage_of_our_own(error: Exception, is_ours: bool) -> None:
    assert is_shortage(error) is is_ours
