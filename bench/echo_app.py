"""The least a Python web service can do: read the body, answer 201 with a line of JSON."""

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

BODY = b'{"resources": ["/v2/queues/q/messages/00000000-0000-0000-0000-000000000000"]}'


async def echo(request):
    await request.body()
    return Response(BODY, status_code=201, media_type="application/json")


app = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE"])])
