"""Ask a server of a policy 1000 times a second for a minute, one request in a hundred malformed, and count what comes back.

`python benchmarks/serving.py [RUN] [--rate 1000] [--seconds 60] [--connections 16] [--json FILE]`: the policy of a run; without
one, an untrained policy of HalfCheetah's shapes with two layers of 256. The server is a process of its own, `python -m mopo_pl
serve` on a free port of 127.0.0.1; the requests go over kept connections, one at a time on each. A request is due at its time of
the plan whether or not those before it were answered, and its latency counts from then on: a server that falls behind shows it.
What is not sent when the time is over is not sent any more. Needs the extra `serve`.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import default_policy, processor

from mopo_pl.export.comparison import random_states
from mopo_pl.policy import Policy
from mopo_pl.serving.service import MOST_BYTES

MOST_RATE, MOST_SECONDS = 10_000, 600
"""Bounds of what may be asked of one machine."""
EVERY = 100
"""One request in so many is malformed."""
PATIENCE = 10.0
"""A request without an answer for so long is lost [s]."""
TOLERANCE = 1e-5
"""An action further from the policy's own, in half its range, is a wrong answer."""


@dataclass(frozen=True)
class Ask:
    """A request, and what must come back."""

    kind: str
    request: bytes
    status: int
    action: np.ndarray | None = None
    """[A]; None where an error must come back."""


@dataclass
class Counts:
    """What came of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)
    """Of each answer, since its request was due [s]."""
    replies: list[float] = field(default_factory=list)
    """Since it was sent [s]."""


def posted(body: bytes) -> bytes:
    """A whole HTTP request with this body.

    >>> posted(b"[1]").split()[-2:]
    [b'3', b'[1]']
    """
    return b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def asks_of(policy: Policy, rows: int = 1000) -> tuple[list[Ask], list[Ask]]:
    """Well-formed requests, as lists and by column in turn, and one malformed one of each kind."""
    states = random_states(policy, rows=rows, seed=0)
    actions, names = policy(states), policy.observations.names
    good = []
    for number, (state, action) in enumerate(zip(states.tolist(), actions, strict=True)):
        body = state if number % 2 else dict(zip(names, state, strict=True))
        good.append(Ask("well-formed", posted(json.dumps(body).encode()), 200, action))
    first: list[Any] = states[0].tolist()
    unknown = {**dict(zip(names, first, strict=True)), "no such column": 0.0}
    bad = [
        Ask("wrong length", posted(json.dumps([*first, 0.0]).encode()), 400),
        Ask("NaN", posted(json.dumps([float("nan"), *first[1:]]).encode()), 400),
        Ask("not JSON", posted(b"[0.1, 0.2"), 400),
        Ask("unknown column", posted(json.dumps(unknown).encode()), 400),
        Ask("too large", posted(b"1" * (MOST_BYTES + 1)), 413),
    ]
    return good, bad


def plan(good: list[Ask], bad: list[Ask]) -> Iterator[Ask]:
    """Requests without end, one in `EVERY` malformed, the kinds in turn."""
    well, ill = itertools.cycle(good), itertools.cycle(bad)
    for number in itertools.count(1):
        yield next(well) if number % EVERY else next(ill)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def is_right(ask: Ask, status: int, body: bytes, half: np.ndarray) -> bool:
    """Whether an answer is the one that must come back. `half` [A]: half the range of each action."""
    if status != ask.status:
        return False
    said = json.loads(body)
    if ask.action is None:
        return list(said) == ["error"]
    return bool((np.abs(np.array(said["action"]) - ask.action) <= TOLERANCE * half).all())


async def drive(port: int, policy: Policy, *, rate: int, seconds: float, connections: int) -> tuple[Counts, float]:
    """Send the plan; give the counts and the seconds it took."""
    counts, planned = Counts(), enumerate(plan(*asks_of(policy)))
    half = (policy.action_high - policy.action_low).numpy() / 2
    begin = time.perf_counter() + 0.2

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, ask in planned:  # shared: each takes the next one
            due = begin + number / rate
            if due >= begin + seconds or time.perf_counter() >= begin + seconds:
                break
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            counts.sent[ask.kind] += 1
            try:
                writer.write(ask.request)
                await writer.drain()
                status, body = await asyncio.wait_for(answer_of(reader), PATIENCE)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                counts.lost += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            end = time.perf_counter()
            counts.answered[ask.kind] += 1
            counts.latencies.append(end - due)
            counts.replies.append(end - now)
            counts.wrong += not is_right(ask, status, body, half)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return counts, time.perf_counter() - begin


def told_by_server(port: int) -> dict[str, Any]:
    """What `/health` says."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/health")
    return json.loads(connection.getresponse().read())


def started(run: str | Path) -> tuple[subprocess.Popen[str], int]:
    """A server of a run, and its port."""
    command = [sys.executable, "-m", "mopo_pl", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().split("  (")[0]
    if not address:
        raise SystemExit(f"the server did not start (exit code {server.wait()})")
    return server, int(address.rpartition(":")[2])


def measured(run: str | Path, policy: Policy, *, rate: int, seconds: float, connections: int) -> dict[str, Any]:
    """Serve, ask, end; everything that was counted."""
    load, server_and_port = os.getloadavg()[0], started(run)
    server, port = server_and_port
    try:
        idle, before = told_by_server(port), time.process_time()
        counts, took = asyncio.run(drive(port, policy, rate=rate, seconds=seconds, connections=connections))
        client, health = time.process_time() - before, told_by_server(port)
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=60)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    latencies, replies = (
        {name: round(1e3 * float(np.percentile(taken, at)), 2) for name, at in (("p50", 50), ("p99", 99), ("max", 100))}
        for taken in (counts.latencies or [np.nan], counts.replies or [np.nan])
    )
    return {
        "planned": int(rate * seconds),
        "sent": counts.sent.total(),
        "answered": counts.answered.total(),
        "lost": counts.lost,
        "wrong": counts.wrong,
        "malformed": {kind: [n, counts.answered[kind]] for kind, n in counts.sent.items() if kind != "well-formed"},
        "seconds": round(took, 2),
        "rate_reached": round(counts.answered.total() / took, 1),
        "latency_ms": latencies,
        "reply_ms": replies,
        "server_counts": health["requests"],
        "server_cpu_share": round((health["cpu_seconds"] - idle["cpu_seconds"]) / took, 2),
        "client_cpu_share": round(client / took, 2),
        "server_exit_code": code,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "rate": rate,
        "connections": connections,
        "machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}",
    }


def table(found: dict[str, Any]) -> str:
    """The numbers as a table."""
    bad = sum(sent for sent, _ in found["malformed"].values())
    rows = {
        "planned": f"{found['planned']} at {found['rate']} a second",
        "sent, of these malformed": f"{found['sent']}, {bad}",
        "answered, lost, wrong": f"{found['answered']}, {found['lost']}, {found['wrong']}",
        "rate reached": f"{found['rate_reached']:.0f} a second",
        "latency since due, p50, p99": f"{found['latency_ms']['p50']} ms, {found['latency_ms']['p99']} ms",
        "reply since sent, p50, p99": f"{found['reply_ms']['p50']} ms, {found['reply_ms']['p99']} ms",
        "share of a core, server and client": f"{found['server_cpu_share']}, {found['client_cpu_share']}",
        "load before, after": f"{found['load'][0]}, {found['load'][1]}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> None:
    """Print a table and the same numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run's folder")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="kept connections (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    options = parser.parse_args()
    if not (0 < options.rate <= MOST_RATE and 0 < options.seconds <= MOST_SECONDS and 0 < options.connections <= 256):
        parser.error(f"at most {MOST_RATE} a second for {MOST_SECONDS} s over 256 connections")
    torch.set_num_threads(1)
    how: dict[str, Any] = {name: getattr(options, name) for name in ("rate", "seconds", "connections")}
    with tempfile.TemporaryDirectory() as folder:
        policy = default_policy() if options.run is None else Policy.load(options.run)
        if options.run is None:
            policy.save(folder)
        found = measured(options.run or folder, policy, **how)
    print(f"{found['machine']}\n{table(found)}\n{json.dumps(found)}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
