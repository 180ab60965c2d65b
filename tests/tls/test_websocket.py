"""A WebSocket under TLS: the transport below it changes its protocol as TCP's does."""

from __future__ import annotations

import json
import ssl

import aiohttp

from tests.api.conftest import CLIENT_ID, PROJECT, StartApi

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT}


async def test_frames_pass_under_tls_and_a_stop_closes_the_socket(
    start: StartApi, trusting: ssl.SSLContext
) -> None:
    api = await start(max_messages_post_size=300_000)
    messages = [{"body": "x" * 250_000}]

    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"wss://127.0.0.1:{api.port}/v2", ssl=trusting) as client,
    ):
        for action, body in (
            ("message_post", {"queue_name": "q", "messages": messages}),
            ("message_list", {"queue_name": "q", "echo": True}),
        ):
            await client.send_json({"action": action, "headers": HEADERS, "body": body})
            answer = json.loads(await client.receive_str(timeout=10))
            assert answer["headers"]["status"] in (200, 201)
        assert answer["body"]["messages"][0]["body"] == messages[0]["body"]
        for connection in list(api.connections):
            connection.shutdown()
        ending = await client.receive(timeout=10)

    assert (ending.type, ending.data) == (aiohttp.WSMsgType.CLOSE, 1001)
