"""A webhook sink in a process of its own: counts deliveries, keeps latencies.

    POST /hook/<run>/<subscriber>   a delivery; answered 204
    GET  /ctl/<run>                 the deliveries of that run
    DELETE /ctl/<run>               forget it

A delivery's body is JSON, with the load generator's message under "body": a "seq", and "ts", the
sender's time.time().
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import time

import uvloop
from aiohttp import web
from orjson import loads


class Run:
    def __init__(self):
        self.seen = {}
        self.latencies = []
        self.total = self.duplicates = self.malformed = 0
        self.first = self.last = None


RUNS = {}


async def hook(request):
    now = time.time()
    raw = await request.read()
    run = RUNS.get(request.match_info["run"])
    if run is None:
        run = RUNS[request.match_info["run"]] = Run()
    run.total += 1
    run.last = now
    if run.first is None:
        run.first = now
    try:
        body = loads(raw)["body"]
        key = (request.match_info["sub"], body["seq"])
        sent = body["ts"]
    except (ValueError, KeyError, TypeError):
        run.malformed += 1
        return web.Response(status=204)
    if key in run.seen:
        run.duplicates += 1
    else:
        run.seen[key] = now
        run.latencies.append(now - sent)
    return web.Response(status=204)


async def ctl(request):
    if request.method == "DELETE":
        RUNS.pop(request.match_info["run"], None)
        return web.Response(status=204)
    run = RUNS.get(request.match_info["run"]) or Run()
    use = resource.getrusage(resource.RUSAGE_SELF)
    doc = {
        "total": run.total,
        "distinct": len(run.seen),
        "duplicates": run.duplicates,
        "malformed": run.malformed,
        "first": run.first,
        "last": run.last,
        "cpu_s": use.ru_utime + use.ru_stime,
        "pid": os.getpid(),
    }
    if request.query.get("latencies"):
        doc["latencies"] = run.latencies
    return web.json_response(doc)


def make_app():
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_post("/hook/{run}/{sub}", hook)
    app.router.add_route("*", "/ctl/{run}", ctl)
    return app


async def serve(host, port):
    runner = web.AppRunner(make_app(), access_log=None, keepalive_timeout=75)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    await site.start()
    real = site._server.sockets[0].getsockname()[1]
    print(json.dumps({"port": real, "pid": os.getpid()}), flush=True)
    # The parent holds our stdin; when it goes away, so do we.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=0)
    a = ap.parse_args()
    uvloop.run(serve(a.host, a.port))
