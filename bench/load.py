"""Load for any server of the Zaqar v2 wire API, with its CPU time and latencies.

Only the wire is used: paths under /v2, JSON bodies, the Client-ID and X-Project-ID headers.
Nothing here knows which server it talks to. `run.py` measures two servers side by side with it; for
one that already runs:

    python bench/load.py --base-url http://127.0.0.1:8888 --server-pid PID --out result.json

Scenarios (choose with --scenarios, comma separated):
  post1         POST one ~1 KiB message per request
  post10        POST ten of them per request
  list          GET .../messages?limit=10&echo=true from a queue of 100
  consume       claim 10, then DELETE each with its claim_id, until empty
  mixed         N producers and N consumers until every message came through
  fanout        S webhook subscribers, K messages posted as fast as they go by N producers
  fanout_paced  the same, but there is one producer, and the next message waits for the
                previous one's deliveries: latency without a backlog

Every figure is the result of --trials repetitions and is reported as min / median / max over them.
CPU: "load" is this process, "sink" the webhook receiver, "server" the process trees given with
--server-pid, "other" all other processes of the machine. 1.0 is one whole core.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from urllib.parse import urlsplit

import uvloop
from orjson import dumps, loads

HERE = os.path.dirname(os.path.abspath(__file__))
CALM_SECONDS = 1.25
"""Services may clear the rest of a trial later: zaqar-notify looks for deleted queues once a second, and the
next trial would pay for that."""
TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()
PART_CPU = "cpu_ms_per_op_of_"
PART_SHARE = "cpu_of_"
"""Begin the names of the figures of each part of a server."""


# ---------------------------------------------------------------- HTTP client


class _Proto(asyncio.Protocol):
    def __init__(self):
        self.buf = bytearray()
        self.fut = None
        self.closed = False
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.closed = True
        if self.fut and not self.fut.done():
            self._parse(eof=True)
            if not self.fut.done():
                self.fut.set_exception(ConnectionError("closed before a whole answer"))

    def data_received(self, data):
        self.buf += data
        if self.fut and not self.fut.done():
            self._parse()

    def _parse(self, eof=False):
        buf = self.buf
        end = buf.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(buf[:end]).lower()
        status = int(head[9:12])
        start = end + 4
        length, chunked, close = None, False, False
        for line in head.split(b"\r\n")[1:]:
            if line.startswith(b"content-length:"):
                length = int(line[15:])
            elif line.startswith(b"transfer-encoding:") and b"chunked" in line:
                chunked = True
            elif line.startswith(b"connection:") and b"close" in line:
                close = True
        if status in (204, 304):
            length, chunked = 0, False
        if chunked:
            out, pos = bytearray(), start
            while True:
                eol = buf.find(b"\r\n", pos)
                if eol < 0:
                    return
                size = int(bytes(buf[pos:eol]).split(b";")[0], 16)
                if len(buf) < eol + 2 + size + 2:
                    return
                out += buf[eol + 2 : eol + 2 + size]
                pos = eol + 2 + size + 2
                if size == 0:
                    break
            body, used = bytes(out), pos
        elif length is not None:
            if len(buf) < start + length:
                return
            body, used = bytes(buf[start : start + length]), start + length
        elif eof:
            body, used = bytes(buf[start:]), len(buf)
        else:
            return
        del buf[:used]
        if close:
            self.closed = True
            self.transport.close()
        self.fut.set_result((status, body))


class RawClient:
    """A bare HTTP/1.1 client: a general one takes a third of a core at 1,000 requests/s."""

    def __init__(self, base, headers):
        u = urlsplit(base)
        self.host, self.port, self.prefix = u.hostname, u.port or 80, u.path.rstrip("/")
        lines = [f"Host: {self.host}:{self.port}", "Accept: application/json"]
        lines += ["{}: {}".format(*kv) for kv in headers.items() if kv[0].lower() != "accept"]
        self.common = ("\r\n".join(lines) + "\r\n").encode()
        self.idle = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        for p in self.idle:
            p.transport.close()

    async def request(self, method, path, body=None, client_id=None):
        while self.idle:
            p = self.idle.pop()
            if not p.closed and not p.transport.is_closing():
                break
        else:
            loop = asyncio.get_running_loop()
            _, p = await loop.create_connection(_Proto, self.host, self.port)
        p.fut = asyncio.get_running_loop().create_future()
        msg = [method.encode(), b" ", (self.prefix + path).encode(), b" HTTP/1.1\r\n", self.common]
        if client_id:
            msg += [b"Client-ID: ", client_id.encode(), b"\r\n"]
        if body is not None:
            msg += [b"Content-Length: ", str(len(body)).encode(), b"\r\n\r\n", body]
        elif method in ("POST", "PUT", "PATCH"):
            msg += [b"Content-Length: 0\r\n\r\n"]
        else:
            msg.append(b"\r\n")
        p.transport.write(b"".join(msg))
        try:
            return await asyncio.wait_for(p.fut, 120)
        finally:
            if not p.closed:
                self.idle.append(p)


# ------------------------------------------------------------------ CPU clocks


def _stat(pid):
    with open(f"/proc/{pid}/stat") as f:
        rest = f.read().rsplit(")", 1)[1].split()
    return int(rest[1]), sum(map(int, rest[11:15]))  # ppid, own + reaped children


def trees_cpu(parts):
    """CPU seconds used so far by each part: its processes, and all below them."""
    parents, used = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(name)], used[int(name)] = _stat(int(name))
    part_of = {root: part for part, roots in parts.items() for root in roots}
    totals = dict.fromkeys(parts, 0)
    for pid in used:
        p = pid
        while p and p not in part_of:
            p = parents.get(p, 0)
        if p in part_of:
            totals[part_of[p]] += used[pid]
    return {part: total / TICK for part, total in totals.items()}


def machine_cpu():
    with open("/proc/stat") as f:
        v = list(map(int, f.readline().split()[1:9]))
    return (sum(v) - v[3] - v[4]) / TICK  # all but idle and iowait


def own_cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


class Clocks:
    def __init__(self, ctx, sink_cpu=None):
        self.ctx = ctx
        self.t, self.own, self.all = time.perf_counter(), own_cpu(), machine_cpu()
        self.parts, self.sink0 = trees_cpu(ctx.parts), sink_cpu

    def stop(self, ops, sink_cpu=None):
        wall = time.perf_counter() - self.t
        own = own_cpu() - self.own
        every = machine_cpu() - self.all
        sink = (sink_cpu - self.sink0) if sink_cpu is not None else 0.0
        d = {"cpu_load": own / wall, "cpu_machine": every / wall}
        if sink_cpu is not None:
            d["cpu_sink"] = sink / wall
        if self.parts:
            parts = {part: s - self.parts[part] for part, s in trees_cpu(self.ctx.parts).items()}
            srv = sum(parts.values())
            d["cpu_server"] = srv / wall
            d["server_cpu_ms_per_op"] = 1000 * srv / ops if ops else None
            for part, seconds in parts.items():
                d[PART_SHARE + part] = seconds / wall
                d[PART_CPU + part] = 1000 * seconds / ops if ops else None
            d["cpu_other"] = max(0.0, every - own - sink - srv) / wall
        return wall, d


# -------------------------------------------------------------------- utilities


def pct(values, q):
    if not values:
        return None
    v = sorted(values)
    return v[min(len(v) - 1, round(q / 100 * (len(v) - 1)))]


def spread(values):
    v = [x for x in values if x is not None]
    if not v:
        return None
    return {"min": min(v), "median": statistics.median(v), "max": max(v)}


def payload(seq, size):
    doc = {"seq": seq, "ts": time.time(), "pad": ""}
    doc["pad"] = "x" * max(0, size - len(dumps(doc)))
    return doc


class Errors(dict):
    def add(self, what):
        what = str(what)
        self[what] = self.get(what, 0) + 1


class Ctx:
    """One server under test: the options, where it listens, and whose CPU it costs.

    `parts` has the roots of the process trees of each part of the server, stores included. A
    `subscriber` is subscribed to every new queue.
    """

    def __init__(self, a, base_url, parts, sink=None, subscriber=None):
        self.a = a
        self.base_url, self.parts, self.sink = base_url, parts, sink
        self.subscriber = subscriber
        self.headers = {
            "X-Project-ID": a.project,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def client(self):
        return RawClient(self.base_url, self.headers)

    def q(self, name):
        return f"/v2/queues/{name}"


async def new_queue(ctx, c):
    name = "bench-" + uuid.uuid4().hex
    st, body = await c.request("PUT", ctx.q(name), b"{}", str(uuid.uuid4()))
    if st not in (201, 204):
        raise SystemExit(f"PUT queue answered {st} {body[:300]!r}")
    if ctx.subscriber:
        await subscribe(ctx, c, name, ctx.subscriber)
    return name


async def subscribe(ctx, c, name, subscriber):
    st, body = await c.request(
        "POST",
        ctx.q(name) + "/subscriptions",
        dumps({"subscriber": subscriber, "ttl": 3600, "options": {}}),
        str(uuid.uuid4()),
    )
    if st not in (200, 201):
        raise SystemExit(f"subscribe answered {st} {body[:300]!r}")


async def drop_queue(ctx, c, name):
    try:
        await c.request("DELETE", ctx.q(name), None, str(uuid.uuid4()))
    except Exception as e:
        print(f"  (dropping {name}: {e!r})", file=sys.stderr)


def message_body(seqs, size, ttl=3600):
    return dumps({"messages": [{"ttl": ttl, "body": payload(s, size)} for s in seqs]})


async def fill(ctx, c, name, n, size):
    cid, todo = str(uuid.uuid4()), iter(range(0, n, 10))

    async def one():
        for s in todo:
            st, b = await c.request(
                "POST", ctx.q(name) + "/messages", message_body(range(s, min(n, s + 10)), size), cid
            )
            if st != 201:
                raise SystemExit(f"fill: POST answered {st} {b[:300]!r}")

    await asyncio.gather(*[one() for _ in range(4)])


async def timed_loop(ctx, c, concurrency, seconds, make):
    """`concurrency` workers call `make()` -> (method, path, body, ok statuses)."""
    lat, errors = [], Errors()
    stop_at = time.perf_counter() + seconds

    async def worker():
        cid = str(uuid.uuid4())
        while True:
            m, p, b, ok = make()
            t = time.perf_counter()
            if t >= stop_at:
                return
            try:
                st, _ = await c.request(m, p, b, cid)
            except Exception as e:
                errors.add(type(e).__name__)
                continue
            if st in ok:
                lat.append(time.perf_counter() - t)
            else:
                errors.add(st)

    await asyncio.gather(*[worker() for _ in range(concurrency)])
    return lat, errors


def row(lat, errors, wall, cpu, per_op=1):
    d = {
        "requests_per_s": len(lat) / wall,
        "messages_per_s": per_op * len(lat) / wall,
        "p50_ms": 1000 * pct(lat, 50) if lat else None,
        "p99_ms": 1000 * pct(lat, 99) if lat else None,
        "requests": len(lat),
        "wall_s": wall,
        "errors": dict(errors),
    }
    d.update(cpu)
    return d


# -------------------------------------------------------------------- scenarios


async def s_post(ctx, concurrency, per):
    a = ctx.a
    async with ctx.client() as c:
        name = await new_queue(ctx, c)
        path, n = ctx.q(name) + "/messages", [0]

        def make():
            n[0] += per
            return "POST", path, message_body(range(n[0], n[0] + per), a.size), (201,)

        await timed_loop(ctx, c, concurrency, 0.3, make)  # warm up
        k = Clocks(ctx)
        lat, err = await timed_loop(ctx, c, concurrency, a.seconds, make)
        wall, cpu = k.stop(len(lat))
        await drop_queue(ctx, c, name)
    return row(lat, err, wall, cpu, per)


async def s_list(ctx, concurrency):
    a = ctx.a
    async with ctx.client() as c:
        name = await new_queue(ctx, c)
        await fill(ctx, c, name, 100, a.size)
        path = ctx.q(name) + "/messages?limit=10&echo=true"
        st, b = await c.request("GET", path, None, str(uuid.uuid4()))
        got = len(loads(b)["messages"]) if st == 200 else None
        if got != 10:
            raise SystemExit(f"list: expected 10 messages, got {got} ({st} {b[:200]!r})")

        def make():
            return "GET", path, None, (200,)

        await timed_loop(ctx, c, concurrency, 0.3, make)
        k = Clocks(ctx)
        lat, err = await timed_loop(ctx, c, concurrency, a.seconds, make)
        wall, cpu = k.stop(len(lat))
        await drop_queue(ctx, c, name)
    return row(lat, err, wall, cpu, 10)


async def consumer(ctx, c, name, seen, lat, errors, done, idle=0.01):
    """Claims 10 at a time and deletes each one, until `done()`."""
    cid = str(uuid.uuid4())
    base = urlsplit(ctx.base_url).path.rstrip("/")
    body = dumps({"ttl": 300, "grace": 60})
    while not done():
        t = time.perf_counter()
        try:
            st, b = await c.request("POST", ctx.q(name) + "/claims?limit=10", body, cid)
        except Exception as e:
            errors.add("claim:" + type(e).__name__)
            await asyncio.sleep(idle)
            continue
        if st == 204:
            await asyncio.sleep(idle)
            continue
        if st not in (200, 201):
            errors.add(f"claim:{st}")
            await asyncio.sleep(idle)
            continue
        doc = loads(b)
        for m in doc["messages"] if isinstance(doc, dict) else doc:
            href = m["href"]
            if href.startswith("http"):
                u = urlsplit(href)
                href = u.path + "?" + u.query
            if base and href.startswith(base + "/"):
                href = href[len(base) :]
            try:
                st, _ = await c.request("DELETE", href, None, cid)
            except Exception as e:
                errors.add("delete:" + type(e).__name__)
                continue
            if st != 204:
                errors.add(f"delete:{st}")
            s = m["body"]["seq"]
            seen[s] = seen.get(s, 0) + 1
        lat.append(time.perf_counter() - t)


def consumed(d, seen, total, wall):
    d.update(
        {
            "messages_per_s": len(seen) / wall,
            "messages": len(seen),
            "lost": total - len(seen),
            "duplicated": sum(v - 1 for v in seen.values()),
        }
    )
    return d


async def s_consume(ctx, concurrency):
    a, total = ctx.a, ctx.a.consume_messages
    async with ctx.client() as c:
        name = await new_queue(ctx, c)
        await fill(ctx, c, name, total, a.size)
        seen, lat, errors = {}, [], Errors()
        deadline = time.perf_counter() + a.timeout
        k = Clocks(ctx)
        await asyncio.gather(
            *[
                consumer(
                    ctx,
                    c,
                    name,
                    seen,
                    lat,
                    errors,
                    lambda: len(seen) >= total or time.perf_counter() > deadline,
                )
                for _ in range(concurrency)
            ]
        )
        wall, cpu = k.stop(len(seen))
        await drop_queue(ctx, c, name)
    return consumed(row(lat, errors, wall, cpu), seen, total, wall)


async def s_mixed(ctx, n):
    a, total = ctx.a, ctx.a.mixed_messages
    async with ctx.client() as c:
        name = await new_queue(ctx, c)
        seen, lat, errors, posted = {}, [], Errors(), set()
        todo, end = iter(range(total)), []
        deadline = time.perf_counter() + a.timeout

        async def producer():
            cid = str(uuid.uuid4())
            for s in todo:
                try:
                    st, _ = await c.request(
                        "POST", ctx.q(name) + "/messages", message_body([s], a.size), cid
                    )
                except Exception as e:
                    errors.add("post:" + type(e).__name__)
                    continue
                if st == 201:
                    posted.add(s)
                else:
                    errors.add(f"post:{st}")
            end.append(1)

        def done():
            return (len(end) == n and posted <= seen.keys()) or time.perf_counter() > deadline

        k = Clocks(ctx)
        await asyncio.gather(
            *[producer() for _ in range(n)],
            *[consumer(ctx, c, name, seen, lat, errors, done) for _ in range(n)],
        )
        wall, cpu = k.stop(len(seen))
        # Whatever is still claimable now came through twice.
        extra, left = {}, Errors()
        quiet = time.perf_counter() + 0.3
        await consumer(ctx, c, name, extra, [], left, lambda: time.perf_counter() > quiet)
        for s, v in extra.items():
            seen[s] = seen.get(s, 0) + v
        await drop_queue(ctx, c, name)
    d = consumed(row(lat, errors, wall, cpu), seen, len(posted), wall)
    d["lost"] = len(posted - seen.keys())
    d["accepted"] = len(posted)
    d["unaccepted_but_seen"] = len(seen.keys() - posted)
    return d


class Sink:
    def __init__(self):
        self.p = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "sink.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for its parent
        )
        info = json.loads(self.p.stdout.readline())
        self.port, self.pid = info["port"], info["pid"]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self):
        self.p.stdin.close()
        self.p.wait(10)


async def sink_state(sc, run, latencies=False):
    _st, b = await sc.request("GET", "/ctl/{}{}".format(run, "?latencies=1" if latencies else ""))
    return loads(b)


async def fan_setup(ctx, c, sink, run, subs):
    name = await new_queue(ctx, c)
    for i in range(subs):
        await subscribe(ctx, c, name, f"{sink.url}/hook/{run}/{i}")
    return name


async def fan_wait(sc, run, expect, quiet_s, deadline, poll=0.1):
    """Until `expect` distinct deliveries came, or nothing new for quiet_s."""
    last, moved = -1, time.perf_counter()
    while True:
        s = await sink_state(sc, run)
        now = time.perf_counter()
        if s["distinct"] >= expect:
            return s
        if s["total"] != last:
            last, moved = s["total"], now
        if now - moved > quiet_s or now > deadline:
            return s
        await asyncio.sleep(poll)


async def s_fanout(ctx, subs, producers, paced=False):
    a = ctx.a
    count = (
        max(10, min(50, a.fanout_deliveries // (4 * subs)))
        if paced
        else max(20, 2 * producers, min(a.fanout_max_messages, a.fanout_deliveries // subs))
    )
    sink, run = ctx.sink, uuid.uuid4().hex
    async with ctx.client() as c, RawClient(sink.url, {}) as sc:
        name = await fan_setup(ctx, c, sink, run, subs)
        errors, lat, posted, cid = Errors(), [], [], str(uuid.uuid4())
        st0 = await sink_state(sc, run)
        k = Clocks(ctx, st0["cpu_s"])
        began, deadline = time.time(), time.perf_counter() + a.timeout
        rounds = []

        async def post(s):
            t = time.perf_counter()
            try:
                st, _ = await c.request(
                    "POST", ctx.q(name) + "/messages", message_body([s], a.size), cid
                )
            except Exception as e:
                errors.add("post:" + type(e).__name__)
                return
            if st == 201:
                posted.append(s)
                lat.append(time.perf_counter() - t)
            else:
                errors.add(f"post:{st}")

        if paced:
            for s in range(count):
                t = time.time()
                await post(s)
                st = await fan_wait(sc, run, len(posted) * subs, a.quiet, deadline, poll=0.005)
                if st["last"]:
                    rounds.append(st["last"] - t)
        else:
            todo = iter(range(count))

            async def worker():
                for s in todo:
                    await post(s)

            await asyncio.gather(*[worker() for _ in range(producers)])
        posting = time.time() - began
        expect = len(posted) * subs
        await fan_wait(sc, run, expect, a.quiet, deadline)
        st = await sink_state(sc, run, latencies=True)
        wall, cpu = k.stop(st["distinct"], st["cpu_s"])
        await drop_queue(ctx, c, name)
        await sc.request("DELETE", "/ctl/" + run)
    took = (st["last"] - began) if st["last"] else wall
    d = {
        "subscribers": subs,
        "messages": len(posted),
        "expected": expect,
        "deliveries": st["distinct"],
        "deliveries_per_s": st["distinct"] / took,
        "posts_per_s": len(posted) / posting,
        "post_p50_ms": 1000 * pct(lat, 50) if lat else None,
        "post_p99_ms": 1000 * pct(lat, 99) if lat else None,
        "p50_ms": 1000 * pct(st["latencies"], 50) if st["latencies"] else None,
        "p99_ms": 1000 * pct(st["latencies"], 99) if st["latencies"] else None,
        "lost": expect - st["distinct"],
        "duplicated": st["duplicates"],
        "malformed": st["malformed"],
        "wall_s": wall,
        "took_s": took,
        "errors": dict(errors),
    }
    if rounds:
        d["round_p50_ms"], d["round_p99_ms"] = 1000 * pct(rounds, 50), 1000 * pct(rounds, 99)
    d.update(cpu)
    return d


# ----------------------------------------------------------------------- trials


def plan(a):
    """Pairs of a line's name and a coroutine function that runs one trial of it on a `Ctx`."""
    for scenario in words(a.scenarios):
        if scenario in ("post1", "post10"):
            per = int(scenario.removeprefix("post"))
            for n in a.concurrency:
                yield f"{scenario} c={n}", lambda ctx, n=n, per=per: s_post(ctx, n, per)
        elif scenario == "list":
            for n in a.concurrency:
                yield f"list c={n}", lambda ctx, n=n: s_list(ctx, n)
        elif scenario == "consume":
            for n in a.consumers:
                yield f"consume c={n}", lambda ctx, n=n: s_consume(ctx, n)
        elif scenario == "mixed":
            for n in a.pairs:
                yield f"mixed {n}+{n}", lambda ctx, n=n: s_mixed(ctx, n)
        elif scenario == "fanout":
            for n in a.subscribers:
                for c in a.fanout_producers:
                    yield f"fanout S={n} c={c}", lambda ctx, n=n, c=c: s_fanout(ctx, n, c)
        elif scenario == "fanout_paced":
            for n in a.subscribers:
                yield f"fanout_paced S={n}", lambda ctx, n=n: s_fanout(ctx, n, 1, paced=True)
        else:
            raise SystemExit(f"unknown scenario {scenario!r}")


INTEGRITY = ("lost", "duplicated", "malformed", "unaccepted_but_seen")


def summarise(trials, discarded=()):
    keys = []
    for t in trials:
        keys += [k for k, v in t.items() if isinstance(v, (int, float)) and k not in keys]
    out = {k: spread([t.get(k) for t in trials]) for k in keys}
    errors = Errors()
    for t in [*trials, *discarded]:  # errors count in discarded trials, too
        for k, v in t.get("errors", {}).items():
            errors[k] = errors.get(k, 0) + v
    for k in INTEGRITY:
        if k in out:
            out[k] = spread([t.get(k) for t in [*trials, *discarded]])
    out["errors"] = dict(errors)
    return out


async def wait_calm(a):
    """Hold a trial back until the machine has been quiet for `CALM_SECONDS`."""
    if not a.calm:
        return
    now = time.perf_counter()
    give_up, calm_since = now + a.calm_wait, now
    while now - calm_since < CALM_SECONDS and now < give_up:
        before, used = now, machine_cpu()
        await asyncio.sleep(0.25)
        now = time.perf_counter()
        if (machine_cpu() - used) / (now - before) >= a.calm:
            calm_since = now


def noise(trial):
    return trial.get("cpu_other", 0.0)


async def repeat(a, name, runs, deadline=None):
    """Run `a.trials` trials of each server, taking turns, so that a bad minute touches all alike.

    A trial during which other processes had more than `a.noise` of a core is repeated, up to
    `a.noise_retries` times, and the calmest ones count. They are chosen by that alone, never by
    their outcome.

    Args:
        runs: A function without arguments for each server's label; it runs one trial.
        deadline: Instant of `time.perf_counter` after which no second trial begins.

    Returns:
        For each label its summary, the trials it is made of, and those discarded.
    """
    done = {label: [] for label in runs}

    def lacks(label):
        trials = done[label]
        if deadline and time.perf_counter() > deadline and trials:
            return False
        quiet = sum(1 for t in trials if not a.noise or noise(t) <= a.noise)
        return quiet < a.trials and len(trials) < a.trials + a.noise_retries

    while lacking := [label for label in runs if lacks(label)]:
        for label in lacking:
            await wait_calm(a)
            trial = await runs[label]()
            done[label].append(trial)
            report_trial(name, label, trial)
    results = {}
    for label, trials in done.items():
        trials.sort(key=noise)
        kept, discarded = trials[: a.trials], trials[a.trials :]
        results[label] = {
            "summary": summarise(kept, discarded),
            "trials": kept,
            "discarded_as_noisy": discarded,
        }
    return results


def share(deadline, left):
    """The instant when one of `left` equal parts of the time until `deadline` has passed."""
    now = time.perf_counter()
    return now + (deadline - now) / left


def report_trial(name, label, t):
    parts = [f"{name:<18} {label:<14} {rate(t) or 0:9.1f}/s"]
    for key, what in (
        ("p50_ms", "p50"),
        ("p99_ms", "p99"),
        ("server_cpu_ms_per_op", "cpu ms/op"),
        ("cpu_other", "other"),
    ):
        if t.get(key) is not None:
            parts.append(f"{what} {t[key]:.3g}")
    parts += [f"{key} {t[key]}" for key in INTEGRITY if t.get(key)]
    if t["errors"]:
        parts.append(f"errors {t['errors']}")
    print("  ".join(parts), file=sys.stderr, flush=True)


def rate(figures):
    """Deliveries, or messages, or else requests per second, of a trial or a summary."""
    for key in ("deliveries_per_s", "messages_per_s", "requests_per_s"):
        if figures.get(key) is not None:
            return figures[key]
    return None


# ------------------------------------------------------------------------- main


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def ints(text):
    return [int(word) for word in words(text)]


def add_options(parser):
    """Options that shape the load; the same for every server that is measured."""
    add = parser.add_argument
    add("--project", default="bench")
    add("--scenarios", default="post1,post10,list,consume,mixed,fanout,fanout_paced")
    add("--trials", type=int, default=5)
    add("--seconds", type=float, default=3, help="length of one timed trial")
    add("--concurrency", type=ints, default=[1, 16, 64])
    add("--consumers", type=ints, default=[1, 4, 16, 64])
    add("--consume-messages", type=int, default=3000)
    add("--pairs", type=ints, default=[4], help="producers = consumers in 'mixed'")
    add("--mixed-messages", type=int, default=2000)
    add("--subscribers", type=ints, default=[1, 10, 100])
    add("--fanout-deliveries", type=int, default=3000, help="about this many per trial")
    add("--fanout-max-messages", type=int, default=1000)
    add("--fanout-producers", type=ints, default=[4, 16, 64])
    add("--quiet", type=float, default=5, help="seconds without a delivery = the rest is lost")
    add("--timeout", type=float, default=60, help="of one trial of consume/mixed/fanout")
    add("--size", type=int, default=1024, help="bytes of one message body as JSON")
    add("--calm", type=float, default=0.3, help="wait until the machine uses fewer cores than this")
    add("--calm-wait", type=float, default=15, help="but no longer than this (s)")
    add("--noise", type=float, default=0.25, help="repeat a trial if others used more cores")
    add("--noise-retries", type=int, default=5, help="at most so many repeats per line")


async def measure(a):
    sink = Sink() if "fanout" in a.scenarios else None
    ctx = Ctx(a, a.base_url, {"processes": a.server_pid} if a.server_pid else {}, sink)
    results = {}
    try:
        for name, scenario in plan(a):
            line = await repeat(a, name, {"server": lambda scenario=scenario: scenario(ctx)})
            results[name] = line["server"]
    finally:
        if sink:
            sink.close()
    return results


def write_json(path, document):
    with open(path, "w") as f:
        json.dump(document, f, indent=1, sort_keys=True)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base-url", required=True, help="where /v2 lives")
    parser.add_argument(
        "--server-pid",
        type=int,
        action="append",
        default=[],
        help="root process of the server or its store (repeatable); its tree's CPU is measured",
    )
    add_options(parser)
    parser.add_argument("--out", help="JSON file for the results")
    a = parser.parse_args()
    results = uvloop.run(measure(a))
    if a.out:
        write_json(a.out, {"options": vars(a), "cores": CORES, "results": results})


if __name__ == "__main__":
    main()
