"""`Service` over text streams: one line of JSON in, one line of JSON out."""

import json
import os
import select
from collections.abc import Iterator
from typing import Any, TextIO

from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.serving.service import MOST_BYTES, Service


def run(service: Service, source: int, out: TextIO) -> None:
    """Answer the lines of a file descriptor until it ends, writing to `out` fails, or SIGINT, SIGTERM or SIGUSR1 arrives.

    Lines that were read completely before a signal are answered.
    """
    wake, waker = os.pipe()
    try:
        with SignalHandler().installed(lambda: _write(waker)):
            for line in lines_of(source, wake):
                out.write(json.dumps(_answer(service, line)) + "\n")
                out.flush()
                if getattr(out, "lost", None) is not None:
                    return
    finally:
        os.close(wake)
        os.close(waker)


def _answer(service: Service, line: bytes | None) -> dict[str, Any]:
    if line is None:
        service.refuse()
        return {"error": f"the line is longer than {MOST_BYTES} bytes: send smaller batches"}
    word = line.strip()
    if word in (b'"reset"', b'"health"'):
        return service.reset() if word == b'"reset"' else service.health()
    try:
        return service.act(line)
    except ValueError as error:
        service.refuse()
        return {"error": str(error)}


def _write(waker: int) -> None:
    os.write(waker, b"\0")


def lines_of(source: int, wake: int) -> Iterator[bytes | None]:
    """Yield the lines of a file descriptor; None for a line of more than `MOST_BYTES`, which is not kept.

    Ends with the file, or as soon as `wake` can be read. `readline` is not used, because it could not be interrupted cleanly by a signal.
    """
    held, too_long = bytearray(), False
    while True:
        ready, _, _ = select.select([source, wake], [], [])
        if wake in ready:
            return
        block = os.read(source, 1 << 16)
        *whole, rest = block.split(b"\n")
        for part in whole:
            held += part
            yield None if too_long or len(held) > MOST_BYTES else bytes(held)
            held, too_long = bytearray(), False
        held += rest
        if len(held) > MOST_BYTES:
            held, too_long = bytearray(), True
        if not block:
            if held or too_long:
                yield None if too_long else bytes(held)
            return
