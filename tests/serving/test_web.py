"""A service over HTTP: its answers, its refusals, and its end."""

import asyncio
import http.client
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import start
from starlette.testclient import TestClient

from mopo_pl.__main__ import main
from mopo_pl.policy.guards import OnInvalid
from mopo_pl.serving import web
from mopo_pl.serving.parser import ON_INVALID
from mopo_pl.serving.service import MOST_BYTES, Service


@pytest.fixture
def service(make: Callable[..., Service]) -> Service:
    return make()


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(web.application(service), "http://127.0.0.1")


def test_an_observation_is_answered_as_the_service_answers_it(client: TestClient, make: Callable[..., Service]) -> None:
    body = b'{"temp": 0.5, "pressure": 0, "flow": 9}'
    answer = client.post("/act", content=body)
    assert (answer.status_code, answer.json()) == (200, make().act(body))
    assert answer.headers["content-type"] == "application/json"
    health = client.get("/health").json()
    assert (health["requests"], health["flagged"]["outside"]["flow"]) == ({"answered": 1, "refused": 0}, 1)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"[1, 2]", 400, "observation has shape (2,); the last must be 3"),
        (b"[1, 2", 400, "this is no JSON: "),
        (b"[1, 2, NaN]", 400, "the observation is not finite: "),
        (b"[3e38, 3e38, 3e38]", 200, ""),
        (b'{"temp": 1, "pressure": 1, "flow": 1, "\\ud800": 1}', 400, "an observation given as a dict holds each column by its name; this one has \ud800"),
        (b" " * MOST_BYTES + b"1", 413, f"the body is larger than {MOST_BYTES} bytes: send smaller batches"),
        (b"[0, 0, 0]" + b" " * (MOST_BYTES - 9), 200, ""),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_with_its_reason_as_json(
    client: TestClient, service: Service, body: bytes, status: int, said: str
) -> None:
    answer = client.post("/act", content=body)
    assert answer.status_code == status
    if status != 200:
        assert list(answer.json()) == ["error"]
        assert answer.json()["error"].startswith(said)
    refused = 0 if status == 200 else 1
    assert service.health()["requests"] == {"answered": 1 - refused, "refused": refused}


def test_other_requests_are_refused_as_json_too(client: TestClient) -> None:
    assert (client.get("/act").status_code, client.get("/act").json()) == (405, {"error": "Method Not Allowed"})
    assert (client.get("/else").status_code, client.get("/else").json()) == (404, {"error": "Not Found"})
    assert client.get("/health", headers={"origin": "http://a.page"}).status_code == 200


@pytest.mark.parametrize("path", ["/act", "/reset"])
def test_a_page_in_a_browser_commands_nothing(client: TestClient, service: Service, path: str) -> None:
    answer = client.post(path, content=b"[0, 0, 0]", headers={"origin": "http://a.page"})
    assert (answer.status_code, answer.json()) == (403, {"error": "requests of pages in a browser are not answered"})
    assert service.health()["requests"]["answered"] == 0


def test_a_reset_begins_an_episode(make: Callable[..., Service]) -> None:
    client = TestClient(web.application(make(rate_limits={"valve": 0.01})))
    first = client.post("/act", content=b"[1, 2, 3]").json()["action"]
    free = make().act(b"[-1, -2, -3]")["action"]
    assert client.post("/act", content=b"[-1, -2, -3]").json()["action"][0] == pytest.approx(first[0], abs=0.0101)
    assert client.post("/reset").json() == {"reset": True}
    assert client.post("/act", content=b"[-1, -2, -3]").json()["action"] == free


def test_an_error_of_the_program_is_told_without_its_inside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: bytes) -> dict[str, Any]:
        raise RuntimeError("secret")

    monkeypatch.setattr(service, "act", broken)
    answer = TestClient(web.application(service), raise_server_exceptions=False).post("/act", content=b"[0, 0, 0]")
    assert (answer.status_code, answer.json()["error"]) == (500, "the server failed at this; what it printed says why")


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [(True, 400, "the request ended before its body"), (False, 408, "the body did not arrive within 0.05 s")],
)
def test_a_body_that_never_comes_whole_is_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch, ends: bool, status: int, said: str
) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.05)
    sent: list[Any] = []
    parts = iter([{"type": "http.request", "body": b"[1,", "more_body": True}, {"type": "http.disconnect"}][: 1 + ends])

    async def receive() -> Any:
        part = next(parts, None)
        return await asyncio.Event().wait() if part is None else part

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/act", "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(web.application(service)(scope, receive, send))
    assert (sent[0]["status"], json.loads(sent[1]["body"])) == (status, {"error": said})
    assert service.health()["requests"] == {"answered": 0, "refused": 1}


# As a program


def test_a_server_answers_on_a_free_port_and_ends_in_order_at_sigterm(run: Path) -> None:
    server = start(
        run, "--port", "0", "--on-invalid", "safe_action", "--safe-action", "-0.5", "2", "--rate-limit", "pump=1"
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline().decode()
        assert line.startswith("serving  http://127.0.0.1:")
        port = int(line.split("  (")[0].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def ask(method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        status, answer = ask("POST", "/act", b"[null, 0, 0]")
        assert (status, answer["action"], answer["guards"]["invalid_now"]) == (200, [-0.5, 2.0], 1)
        status, answer = ask("POST", "/act", b"[1, 2, 3]")
        assert 1 - 1e-5 <= answer["action"][1] <= 3 + 1e-5
        # Larger than what is buffered on the way: the whole body is sent, and the connection stays.
        status, answer = ask("POST", "/act", b"1" * (8 * MOST_BYTES))
        assert (status, answer["error"].split(":")[0]) == (413, f"the body is larger than {MOST_BYTES} bytes")
        status, answer = ask("GET", "/health")
        assert (status, answer["requests"]) == (200, {"answered": 2, "refused": 1})
        server.send_signal(signal.SIGTERM)  # the connection is still open
        out, err = server.communicate(timeout=60)
        connection.close()
        assert (server.returncode, out.decode()) == (0, "")
        assert err.decode() == "ended    2 answered, 1 refused\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    finally:
        server.kill()
        server.wait()


def test_an_address_that_cannot_be_had_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(run), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: --host 127.0.0.1 --port {port} cannot be had (Address already in use): give another, or --port 0 for a free one\n"
    )
    for host in ("no such host", "a" * 70, "..", ""):
        assert main(["serve", str(run), "--host", host]) == 2
        assert "cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize("port", [-1, 2**16, 70_000])
def test_a_port_that_is_none_is_not_taken_modulo_65536(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr("mopo_pl.serving.web.run", lambda service, bound: None)
    assert main(["serve", str(run), "--port", str(port)]) == 2
    assert f"--port {port} must lie in [0, 65535]" in capsys.readouterr().err


def test_only_loopback_is_taken_without_a_warning(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mopo_pl.serving.web.run", lambda service, bound: None)
    for host, warned in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        assert main(["serve", str(run), "--host", host, "--port", "0"]) == 0
        printed = capsys.readouterr()
        assert ("warning: 0.0.0.0 is reached from other machines" in printed.err) == warned
        assert printed.out.startswith("serving  http://")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--safe-action", "99", "0"], "safe_action=[99.0, 0.0] is no action within the bounds [-1.0, 0.0] to [3.0, 10.0]"),
        (["--on-invalid", "safe_action"], "on_invalid='safe_action' needs safe_action=[...]"),
        (["--rate-limit", "valv=1"], "rate_limits: valv=1.0 is of no action column: valve, pump"),
        (["--rate-limit", "valve=1", "--rate-limit", "valve=2"], "--rate-limit valve=2: valve has a limit already"),
        (["--actor", "x"], "--actor x: there is no actor named 'x'. Available: module:function"),
        (["--rate-limit", "valve"], "--rate-limit valve: write NAME=CHANGE, such as valve=0.25"),
        (["--rate-limit", "valve=fast"], "--rate-limit valve=fast: write NAME=CHANGE"),
    ],
)  # fmt: skip
def test_guards_that_do_not_fit_are_said(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["serve", str(run), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_installed_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", str(run)]) == 2
    assert capsys.readouterr().err == (
        "error: serve needs starlette, uvicorn: pip install -c constraints.txt -e '.[serve]', or use --stdin, which needs neither\n"
    )


def test_the_command_offers_every_fallback() -> None:
    assert OnInvalid.__args__ == ON_INVALID  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "why"),
    [("~no-such-user/run", "Could not determine home directory"), ("a" * 300, "File name too long")],
)
def test_a_place_that_no_folder_can_have_is_said(place: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", place]) == 2
    said = f"error: {place} is no folder ({why}): give that of a run, or of its policy\n"
    assert capsys.readouterr().err == said
