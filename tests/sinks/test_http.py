"""The HTTP client of deliveries, against receivers that answer in every way."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sinks import connections
from sinks.answer import Response
from sinks.connections import NoAnswer, Origin
from sinks.guard import AddressForbidden, AddressGuard
from sinks.http import HttpClient
from tests.sinks.certificates import contexts
from tests.sinks.conftest import LOOPBACK
from tests.sinks.name_server import serving_names
from tests.sinks.receiver import Behaviour, Receiver, answer, hang_up, receiving, say
from tests.workers.office import until

REQUEST = (b"POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n", b"{}")
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def http_client(
    *,
    most_requests: int = 8,
    connect_seconds: float = 2,
    total_seconds: float = 5,
    tls: ssl.SSLContext | None = None,
    name_servers: Sequence[str] = (),
) -> HttpClient:
    return HttpClient(
        AddressGuard(allow=LOOPBACK),
        connect_seconds=connect_seconds,
        total_seconds=total_seconds,
        most_requests=most_requests,
        tls=tls,
        name_servers=name_servers,
    )


@pytest.fixture
async def two_addresses() -> AsyncIterator[HttpClient]:
    """A client for which two.example is 127.0.0.2 and 127.0.0.1."""
    async with serving_names(two_example=["127.0.0.2", "127.0.0.1"]) as server:
        client = http_client(name_servers=[server.place])
        yield client
        client.close()


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = http_client()
    yield client
    client.close()


async def post(client: HttpClient, receiver: Receiver, *, host: str = "127.0.0.1") -> Response:
    return await client.post(
        Origin(receiver.scheme == "https", host, receiver.port), REQUEST, project="p"
    )


async def nothing_idle(client: HttpClient) -> None:
    """Wait, for less than idle connections are kept for, until there are none."""
    async with asyncio.timeout(5):
        await until(lambda: not client._idle._since)


@contextmanager
def silent_address(address: str, port: int) -> Iterator[None]:
    """A port that neither takes nor refuses connections, because its queue is full and not accepted from."""
    with ExitStack() as stack:
        stack.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield


def write(*pieces: bytes) -> Behaviour:
    """Send pieces one by one, and leave the connection open."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    return behaviour


ANSWERS = {
    "nothing more": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a length": b"HTTP/1.1 200 All right\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 All right\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nRetry-After: 9\r\n\r\n",
    "an empty body": b"HTTP/1.1 500 \r\nRETRY-AFTER:  7 \r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n",
    "line feeds": b"HTTP/1.1 429 Slow\nRetry-After: 7\nContent-Length: 5\n\nhello",
    "a continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 All right\r\nContent-Length: 5\r\n\r\nhello",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
}
READ = {
    "nothing more": Response(204, "No Content", (), b""),
    "a length": Response(200, "All right", (), b"hello"),
    "chunks": Response(200, "All right", (), b"hello"),
    "an empty body": Response(500, "", (("retry-after", "7"), ("retry-after", "9")), b""),
    "line feeds": Response(429, "Slow", (("retry-after", "7"),), b"hello"),
    "a continue": Response(200, "All right", (), b"hello"),
    "early hints": Response(204, "No Content", (), b""),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    client: HttpClient, receiver: Receiver, name: str
) -> None:
    """In one, byte by byte, and cut in two at every place; the connection is kept throughout."""
    text = ANSWERS[name]
    cuts = [(text,), tuple(bytes([byte]) for byte in text)]
    cuts += [(text[:place], text[place:]) for place in range(1, len(text))]
    for pieces in cuts:
        receiver.behaviour = write(*pieces)
        assert await post(client, receiver) == READ[name], pieces

    assert receiver.connections == 1


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_a_connection_that_is_to_be_closed_is_not_used_again(
    client: HttpClient, receiver: Receiver, text: bytes
) -> None:
    receiver.behaviour = say(text)

    answers = [await post(client, receiver) for _ in range(2)]

    assert answers == [Response(200, "OK", (), b"hello")] * 2
    assert receiver.connections == 2


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno number\r\n",
    ],
)
async def test_a_body_that_breaks_off_leaves_the_status(
    client: HttpClient, receiver: Receiver, text: bytes
) -> None:
    receiver.behaviour = say(text)

    assert await post(client, receiver) == Response(200, "OK", (), b"hello")

    receiver.behaviour = answer(204)
    assert (await post(client, receiver)).status == 204


OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED = {
    "one length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "length and chunks": OK
    + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no number": OK + b"Content-Length: two\r\n\r\nok",
    "a number below zero": OK + b"Content-Length: -1\r\n\r\nok",
    "a long number": OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nok",
    "a line without a colon": OK + b"garbage\r\n\r\nok",
    "a name with a blank": OK + b"X Y: 1\r\n\r\nok",
    "a blank before the colon": OK + b"X : 1\r\n\r\nok",
    "a name of nothing": OK + b": 1\r\n\r\nok",
    "a NUL": OK + b"X: a\0b\r\n\r\nok",
    "bytes": OK + b"\xff\xfe: 1\r\n\r\nok",
    "a lone return": OK + b"X: a\rb\r\n\r\nok",
    "line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nok",
    "an old version": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a later version": b"HTTP/2 200 OK\r\n\r\nok",
    "an unknown version": b"HTTP/3.7 200 OK\r\n\r\nok",
    "tabs": b"HTTP/1.1\t200\tOK\r\n\r\nok",
    "blanks": b"HTTP/1.1  200  OK\r\n\r\nok",
    "bytes in the phrase": b"HTTP/1.1 200 \0\xff\r\n\r\nok",
    "no phrase": b"HTTP/1.1 200\r\nX Y\r\n\r\nok",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"X Y\r\n\r\nok",
    "a bad interim answer": b"HTTP/1.1 103 Hints\r\nX Y\r\n\r\n" + OK + b"\r\nok",
    "empty lines before": b"\r\n\r\n" + OK + b"X Y\r\n\r\nok",
}


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("name", MALFORMED)
async def test_a_status_line_counts_whatever_follows_it_and_the_connection_is_closed(
    client: HttpClient, receiver: Receiver, name: str, in_pieces: bool
) -> None:
    text = MALFORMED[name]
    receiver.behaviour = write(*(bytes([byte]) for byte in text)) if in_pieces else write(text)
    assert (await post(client, receiver)).status == 200

    receiver.behaviour = answer(204)
    assert (await post(client, receiver)).status == 204
    assert receiver.connections == 2


@pytest.mark.parametrize("name", ["one length twice", "a name with a blank", "line feeds"])
async def test_a_malformed_answer_is_read_as_far_as_it_goes(
    client: HttpClient, receiver: Receiver, name: str
) -> None:
    text = (
        MALFORMED[name]
        .replace(b"200 OK", b"503 Busy")
        .replace(b"\r\n\r\n", b"\r\nRETRY-AFTER: 7\r\n\r\n")
    )
    text = text.replace(b"\n\n", b"\nRetry-After:7\n\n")
    receiver.behaviour = say(text)

    assert await post(client, receiver) == Response(503, "Busy", (("retry-after", "7"),), b"ok")


@pytest.mark.parametrize(
    "text",
    [
        OK,
        OK + b"X: a",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 200 ",
    ],
)
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_head_that_breaks_off_leaves_the_status(
    receiver: Receiver, text: bytes, hangs: bool
) -> None:
    client = http_client(total_seconds=0.5)
    receiver.behaviour = write(text) if hangs else say(text)

    assert (await post(client, receiver)).status == 200

    client.close()


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"200 OK\r\n\r\n",
        b"<html>HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nX Y\r\n",
        b"HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    ],
)
async def test_what_has_no_status_line_is_no_answer(
    client: HttpClient, receiver: Receiver, text: bytes
) -> None:
    receiver.behaviour = say(text)

    with pytest.raises(NoAnswer):
        await post(client, receiver)


@pytest.mark.parametrize("line", [b"a\n ", b"a\nb:"])
async def test_headers_in_many_lines_are_given_up_early(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    """Lines that continue a header are joined to it one by one: 200 KiB would take 0.1 s."""
    monkeypatch.setattr(connections, "HEAD_BYTES", 0)
    receiver.behaviour = say(b"HTTP/1.1 200 OK\r\nX: " + line * 65536 + b"\r\n\r\n")
    read: list[int] = []
    feed = connections.Connection._read

    def count(connection: connections.Connection, piece: bytes) -> None:
        read.append(len(piece))
        feed(connection, piece)

    monkeypatch.setattr(connections.Connection, "_read", count)

    assert (await post(client, receiver)).status == 200

    assert read == [connections.PIECE_BYTES]


async def test_trailers_without_end_are_cut(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 60.0)
    client = http_client(total_seconds=60)

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    receiver.behaviour = behaviour

    async with asyncio.timeout(20):
        assert await post(client, receiver) == Response(200, "OK", (), b"")
    client.close()


def failure(*, length: int = 0) -> bytes:
    """An answer of 500 that is so many bytes long, or as short as it can be."""
    head = b"HTTP/1.1 500 First\r\nContent-Length: 0\r\nX: "
    return head + b"x" * (length - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        failure() + NO_CONTENT,
        failure() + NO_CONTENT[:10],
        failure() + b"garbage",
        failure() + b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        failure(length=connections.PIECE_BYTES) + NO_CONTENT,
    ],
)
async def test_bytes_after_an_answer_are_not_taken_for_another(
    client: HttpClient, receiver: Receiver, text: bytes
) -> None:
    receiver.behaviour = write(text)
    assert (await post(client, receiver)).status == 500

    receiver.behaviour = answer(202)

    assert (await post(client, receiver)).status == 202
    assert receiver.connections == 2


async def test_bytes_on_an_idle_connection_are_not_taken_for_an_answer(
    client: HttpClient, receiver: Receiver
) -> None:
    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(NO_CONTENT)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 500 Nobody asked\r\n\r\n")

    receiver.behaviour = behaviour
    await post(client, receiver)
    await nothing_idle(client)

    receiver.behaviour = answer(202)

    assert (await post(client, receiver)).status == 202
    assert receiver.connections == 2


async def test_a_connection_that_the_receiver_closed_meanwhile_is_not_used(
    client: HttpClient, receiver: Receiver
) -> None:
    receiver.behaviour = say(NO_CONTENT)
    await post(client, receiver)
    await nothing_idle(client)

    assert (await post(client, receiver)).status == 204
    assert receiver.connections == 2


async def test_a_connection_that_closes_in_this_moment_is_not_used(
    client: HttpClient, receiver: Receiver
) -> None:
    await post(client, receiver)
    [idle] = client._idle._since

    idle.close()

    assert (await post(client, receiver)).status == 204
    with pytest.raises(NoAnswer, match="closed without an answer"):
        await idle.exchange(REQUEST, deadline=asyncio.get_running_loop().time() + 5)


async def test_the_answer_before_is_not_taken_for_the_next(
    client: HttpClient, receiver: Receiver
) -> None:
    await post(client, receiver)
    receiver.behaviour = hang_up

    with pytest.raises(NoAnswer, match="closed without an answer"):
        await post(client, receiver)

    assert receiver.connections == 1


async def test_a_timer_of_the_exchange_before_does_not_end_the_next(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer comes at once, in two pieces; the second when both timers of the first are over."""
    monkeypatch.setattr(connections, "BODY_SECONDS", 1.0)
    client = http_client(total_seconds=1)
    receiver.behaviour = write(b"HTTP/1.1 201 OK\r\nContent-Length: 5\r\n\r\nhel", b"lo")
    first = await post(client, receiver)

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.1)
        writer.write(NO_CONTENT)

    receiver.behaviour = behaviour
    monkeypatch.setattr(client, "_total_seconds", 20)
    second = await post(client, receiver)

    client.close()
    assert (first, second) == (
        Response(201, "OK", (), b"hello"),
        Response(204, "No Content", (), b""),
    )
    assert receiver.connections == 1


async def test_what_is_read_is_limited_for_each_answer(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_BYTES", 100)
    receiver.behaviour = write(NO_CONTENT[:10], NO_CONTENT[10:])

    for _ in range(10):
        assert (await post(client, receiver)).status == 204

    assert receiver.connections == 1


async def test_a_connection_on_which_a_request_was_not_sent_to_its_end_is_not_used_again(
    client: HttpClient, receiver: Receiver
) -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too long\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(30)

    receiver.reads_bodies = False
    receiver.behaviour = behaviour
    origin = Origin(False, "127.0.0.1", receiver.port)
    assert (await client.post(origin, (REQUEST[0], b"x" * 20_000_000), project="p")).status == 413

    receiver.behaviour = answer(204)

    assert (await post(client, receiver)).status == 204
    assert receiver.connections == 2


async def test_requests_at_once_have_connections_of_their_own(
    client: HttpClient, receiver: Receiver
) -> None:
    everybody_is_here = asyncio.Barrier(8)

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everybody_is_here.wait()
        writer.write(NO_CONTENT)

    receiver.behaviour = behaviour

    for _ in range(3):
        await asyncio.gather(*(post(client, receiver) for _ in range(8)))

    assert receiver.connections == 8


async def test_what_was_idle_the_longest_makes_room(receiver: Receiver) -> None:
    client = http_client(most_requests=2)
    async with receiving() as second, receiving() as third:
        for one in (receiver, second, receiver, third, receiver, second):
            await post(client, one)
        client.close()

    assert (receiver.connections, second.connections, third.connections) == (1, 2, 1)


async def test_idle_connections_are_closed_after_a_while(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
    async with receiving() as other:
        await post(client, receiver)
        await asyncio.sleep(0.05)
        await post(client, other)

        await asyncio.wait_for(receiver.disconnected.wait(), 5)
        await asyncio.wait_for(other.disconnected.wait(), 5)


async def test_only_what_has_been_idle_for_that_long_is_closed(
    client: HttpClient, receiver: Receiver
) -> None:
    async with receiving() as other:
        await post(client, receiver)
        await post(client, other)
        old, young = client._idle._since
        client._idle._since[old] -= connections.KEEP_ALIVE_SECONDS

        client._idle._close_old(asyncio.get_running_loop())

        assert (old.is_open(), young.is_open()) == (False, True)


async def test_a_connection_in_use_is_not_closed_for_its_age(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
    await post(client, receiver)

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(NO_CONTENT)

    receiver.behaviour = behaviour

    assert (await post(client, receiver)).status == 204
    assert receiver.connections == 1


async def test_a_request_under_way_when_the_client_closes_keeps_no_connection(
    client: HttpClient, receiver: Receiver
) -> None:
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await may_answer.wait()
        writer.write(NO_CONTENT)

    receiver.behaviour = behaviour
    request = asyncio.create_task(post(client, receiver))
    await arrived.wait()

    client.close()
    may_answer.set()

    assert (await request).status == 204
    await asyncio.wait_for(receiver.disconnected.wait(), 5)


async def test_a_name_with_a_dead_address_is_reached_at_the_next(
    two_addresses: HttpClient,
) -> None:
    async with receiving(host="127.0.0.1") as receiver:
        assert (await post(two_addresses, receiver, host="two.example")).status == 204


async def test_a_name_with_a_silent_address_is_reached_at_the_next(
    two_addresses: HttpClient,
) -> None:
    async with receiving(host="127.0.0.1") as receiver:
        with silent_address("127.0.0.2", receiver.port):
            assert (await post(two_addresses, receiver, host="two.example")).status == 204


async def test_a_forbidden_address_is_said_to_be_that(receiver: Receiver) -> None:
    client = HttpClient(AddressGuard(), connect_seconds=2, total_seconds=5, most_requests=1)

    with pytest.raises(AddressForbidden):
        await post(client, receiver)

    client.close()
    assert receiver.connections == 0


async def test_a_handshake_that_is_not_finished_closes_its_connection() -> None:
    client = http_client(connect_seconds=0.1)
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoAnswer, match=r"no connection within 0\.1 s"):
            await client.post(Origin(True, "127.0.0.1", port), REQUEST, project="p")
        await asyncio.wait_for(gone.wait(), 5)
    client.close()


async def test_the_host_of_a_certificate_counts(tmp_path: Path) -> None:
    """The certificate is one for 127.0.0.1."""
    server, trusting = contexts(tmp_path)
    client = http_client(tls=trusting)
    async with receiving(tls=server) as receiver:
        assert (await post(client, receiver)).status == 204
        with pytest.raises(NoAnswer, match=r"TLS: the certificate is not trusted: .*localhost"):
            await post(client, receiver, host="localhost")
    client.close()


async def test_a_dot_at_the_end_of_a_name_is_not_part_of_what_a_certificate_says(
    tmp_path: Path,
) -> None:
    server, trusting = contexts(tmp_path)
    async with (
        receiving(tls=server) as receiver,
        serving_names(receiver_example=["127.0.0.1"]) as names,
    ):
        client = http_client(tls=trusting, name_servers=[names.place])
        assert (await post(client, receiver, host="receiver.example.")).status == 204
        client.close()


async def test_tls_answers_in_pieces_are_read_as_well(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    client = http_client(tls=trusting)
    async with receiving(tls=server) as receiver:
        text = ANSWERS["chunks"]
        for place in range(1, len(text), 7):
            receiver.behaviour = write(text[:place], text[place:])
            assert await post(client, receiver) == READ["chunks"]
        assert receiver.connections == 1
    client.close()
