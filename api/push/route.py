"""The route of the WebSocket, and the origins whose pages may open one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from urllib.parse import urlsplit

from starlette.routing import Match, WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket

from api.authentication import Authenticator
from api.credentials import with_query
from api.gate import Gate
from api.headers import merged
from api.push.answering import Parts
from api.push.holdings import Holdings
from api.push.limits import SocketLimits
from api.push.session import Session
from api.push.surface import ACTIONS, surface
from api.refusals import HeaderInvalid, ParameterInvalid
from api.turns import Turns
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.settings.edge import ANY_ORIGIN

PATHS = ("/", "/v2", "/v2/")


def routes(
    service: Service,
    authenticator: Authenticator,
    gate: Gate,
    turns: Turns,
    request_ids: Iterator[bytes],
) -> list[WebSocketRoute]:
    """The routes of the WebSocket; none if it is switched off."""
    settings = service.settings
    if not settings.websocket:
        return []
    service.metrics.sockets.expect(ACTIONS)
    limits = SocketLimits(settings.websocket_max_per_project)
    parts = Parts(
        service, surface(authenticator), gate, turns, limits, Holdings(service), request_ids
    )

    async def serve(socket: WebSocket) -> None:
        try:
            headers = merged(socket.scope["headers"])
            query = socket.scope["query_string"]
            offered = with_query(headers, query, has_proxy=settings.trust_proxy)
        except (HeaderInvalid, ParameterInvalid):
            offered = None
        if offered is not None and is_permitted(offered, settings):
            await Session(socket, offered, parts).run()
        else:
            await socket.close()  # Before the handshake is answered: it is refused with 403.

    at_paths = [WebSocketRoute(path, serve, name=f"websocket{path}") for path in PATHS]
    return [OwnPort(settings.websocket_port, serve), *at_paths]


class OwnPort(WebSocketRoute):
    """Any path at the port that is the WebSocket's own."""

    def __init__(self, port: int, serve: Callable[[WebSocket], Awaitable[None]]) -> None:
        super().__init__("/", serve, name="websocket")
        self._port = port

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        server = scope.get("server")
        if scope["type"] == "websocket" and server is not None and server[1] == self._port:
            return Match.FULL, {"endpoint": self.endpoint, "path_params": {}}
        return Match.NONE, {}


def is_permitted(headers: Mapping[bytes, bytes], settings: Settings) -> bool:
    """Whether the page that opens the socket may use the service; other clients name no origin.

    A browser sends its cookies with a handshake and lets any page open a socket to any host. So the
    origin must be the service's own, or one of `ZAQAR_CORS_ORIGINS`.
    """
    if b"origin" not in headers or ANY_ORIGIN in settings.cors_origins:
        return True
    origin = headers[b"origin"].decode("latin-1")
    if origin in settings.cors_origins:
        return True
    own = {headers.get(b"host", b"").decode("latin-1"), urlsplit(settings.public_url).netloc}
    return _host(origin) in {_without_port(host, origin) for host in own if host}


def _host(origin: str) -> str:
    return _without_port(origin.partition("://")[2], origin)


def _without_port(host: str, origin: str) -> str:
    """The host, without the port that the origin's scheme implies."""
    implied = ":443" if origin.startswith(("https:", "wss:")) else ":80"
    return host.lower().removesuffix(implied)
