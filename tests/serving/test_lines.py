"""A service in lines of JSON."""

import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import start

from mopo_pl.__main__ import main
from mopo_pl.serving import lines
from mopo_pl.serving.service import MOST_BYTES, Service


def answers(service: Service, text: bytes) -> list[dict[str, Any]]:
    """Of a service to all lines of a text, written in uneven pieces."""
    reader, writer = os.pipe()

    def write() -> None:
        for first in range(0, len(text), 50_001):
            os.write(writer, text[first : first + 50_001])
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    out = io.StringIO()
    lines.run(service, reader, out)
    thread.join()
    os.close(reader)
    assert out.getvalue().endswith("\n") or not text
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_each_line_has_an_answer_and_a_wrong_one_an_error(make: Callable[..., Service]) -> None:
    given = [b"[0, 0, 0]", b"nonsense", b"", b'{"temp": 0, "flow": 0, "pressure": 0}\r', b"[1, 2]", b"[0, 0, 0]"]
    found = answers(make(), b"\n".join(given))
    assert [next(iter(answer)) for answer in found] == ["action", "error", "error", "action", "error", "action"]
    assert found[0] == found[3] == found[5] == make().act(b"[0, 0, 0]")
    assert found[1]["error"].startswith("this is no JSON: ")
    assert found[4]["error"] == "observation has shape (2,); the last must be 3"
    assert answers(make(), b"") == []


def test_a_line_that_is_too_long_is_dropped_and_the_next_one_answered(make: Callable[..., Service]) -> None:
    whole = b"[0, 0, 0]" + b" " * (MOST_BYTES - 9)
    service = make()
    found = answers(service, whole + b"\n" + b"1" * (3 * MOST_BYTES) + b"\n[0, 0, 0]\n" + whole + b" ")
    assert [next(iter(answer)) for answer in found] == ["action", "error", "action", "error"]
    assert found[1]["error"] == f"the line is longer than {MOST_BYTES} bytes: send smaller batches"
    assert service.health()["requests"] == {"answered": 2, "refused": 2}


def test_two_words_are_no_observations(make: Callable[..., Service]) -> None:
    found = answers(make(history=3), b'[0, 0, 0]\n[1, 1, 1]\n"reset"\n[0, 0, 0]\n"health"\n"begin"\n')
    assert found[2] == {"reset": True}
    assert found[3]["action"] == found[0]["action"]
    assert found[1]["action"] != found[0]["action"]
    assert found[4]["requests"] == {"answered": 3, "refused": 0}
    assert found[5]["error"].startswith("an observation is a list of numbers")


def test_a_reader_that_leaves_ends_the_service(make: Callable[..., Service]) -> None:
    class Gone(io.StringIO):
        lost = None

        def flush(self) -> None:
            self.lost = BrokenPipeError()

    reader, writer = os.pipe()
    os.write(writer, b"[0, 0, 0]\n[0, 0, 0]\n")  # and is not closed
    out = Gone()
    lines.run(make(), reader, out)
    assert len(out.getvalue().splitlines()) == 1
    os.close(reader)
    os.close(writer)


def test_a_program_answers_at_once_and_ends_in_order_at_sigterm(run: Path) -> None:
    server = start(run, "--stdin", stdin=subprocess.PIPE)
    try:
        assert server.stdin is not None
        assert server.stdout is not None
        for line, key in ((b"[0, 0, 0]\n", "action"), (b"[0, 0\n", "error"), (b"[0, 0, 0]\n", "action")):
            server.stdin.write(line)
            server.stdin.flush()
            assert key in json.loads(server.stdout.readline())  # before anything more is written
        server.stdin.write(b"[0, 0, ")  # half a line
        server.stdin.flush()
        server.send_signal(signal.SIGTERM)
        out, err = server.stdout.read(), server.stderr.read() if server.stderr else b""
        assert (server.wait(timeout=60), out, err) == (0, b"", b"ended    2 answered, 1 refused\n")
    finally:
        server.kill()
        server.wait()
        for stream in (server.stdin, server.stdout, server.stderr):
            if stream is not None:
                stream.close()


def test_an_input_that_is_closed_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python does where a shell says <&-
    assert main(["serve", str(run), "--stdin"]) == 2
    assert (
        capsys.readouterr().err == "error: --stdin: the standard input is closed; give it lines: < observations.jsonl\n"
    )
