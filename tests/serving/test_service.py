"""What a service answers to texts of JSON, and what it counts."""

import hashlib
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mopo_pl
from mopo_pl.policy import Policy
from mopo_pl.serving.service import Service

SAFE = [0.5, 2.0]
Make = Callable[..., Service]


def asked(service: Service, what: Any) -> dict[str, Any]:
    return service.act(json.dumps(what).encode())


def test_an_observation_is_a_list_or_an_object_in_any_order_or_a_batch(make: Make, run: Path) -> None:
    service, policy = make(), Policy.load(run)
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 3))
    expected = policy(rows)
    one = asked(service, rows[0].tolist())
    np.testing.assert_array_equal(np.float32(one["action"]), policy(rows[0]))
    assert one["by_name"] == {"valve": one["action"][0], "pump": one["action"][1]}
    assert asked(service, {"flow": rows[0, 2], "temp": rows[0, 0], "pressure": rows[0, 1]}) == one
    batch = asked(service, rows.tolist())
    np.testing.assert_array_equal(np.float32(batch["action"]), expected)
    assert batch["by_name"] == {"valve": [a[0] for a in batch["action"]], "pump": [a[1] for a in batch["action"]]}
    columns = dict(zip(("temp", "pressure", "flow"), rows.T.tolist(), strict=True))
    assert asked(service, columns)["action"] == batch["action"]
    assert service.health()["states"] == 1 + 1 + 4 + 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "this is no JSON: Expecting value"),
        (b"[1, 2", "this is no JSON: Expecting ',' delimiter"),
        (b"\xff\xfe\xff", "this is no JSON: "),
        (b"[1, 2]", "observation has shape (2,); the last must be 3"),
        (b"[]", "observation has shape (0,); the last must be 3"),
        (b"[[]]", "observation has shape (1, 0); the last must be 3"),
        (b"[[1, 2, 3], [1, 2]]", "of what are no real numbers"),
        (b'["a", 1, 2]', "of what are no real numbers"),
        (b"3", "an observation is a list of numbers, an object by column, or a batch of either"),
        (b"null", "an observation is a list of numbers"),
        (b'"warm"', "an observation is a list of numbers"),
        (b'{"temp": 1, "flow": 1}', "this one lacks pressure"),
        (b'{"temp": 1, "flow": 1, "pressure": 1, "pump": 1}', "this one has pump, which is no column"),
        (b'{"temp": 1, "flow": 1, "pressure": 1, "temp": 2}', "holds each column once; this one repeats a name"),
        (b'{"temp": [1, 2], "flow": 1, "pressure": 1}', "holds one number, or as many, for each column"),
        (b'{"temp": {}, "flow": 1, "pressure": 1}', "or a batch of such; this is a dict of what are no real numbers"),
        (b'{"temp": 1, "flow": 1, "pressure": 1, "\\ud800": 1}', "this one has \ud800, which is no column"),
        (b"{%s}" % b", ".join(b'"%s": %s1%s' % (n, b"[" * 64, b"]" * 64) for n in (b"temp", b"pressure", b"flow")), "holds one number, or as many, for each column"),
        (b"[" * 100_000, "its lists are nested too deeply"),
        (b"[" * 300 + b"]" * 300, "of what are no real numbers"),
        (b"[1, NaN, 1]", "the observation is not finite: it holds NaN, inf, or a number too large for the policy's precision, in column pressure"),
        (b"[1, null, 1]", "in column pressure"),
        (b'{"temp": null, "pressure": 1, "flow": 1}', "in column temp"),
        (b"[1, 1, 1e999]", "in column flow"),
        (b"[1, 1, " + b"9" * 5000 + b"]", "in column flow"),
    ],
)  # fmt: skip
def test_what_is_no_observation_is_refused_in_one_sentence(make: Make, body: bytes, said: str) -> None:
    service = make()
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        service.act(body)
    assert "\n" not in str(caught.value)
    assert service.health()["requests"]["answered"] == 0


def test_the_guards_see_what_is_asked_and_say_so(make: Make) -> None:
    service = make(on_invalid="safe_action", safe_action=SAFE)
    first = asked(service, [0, 5, 0])
    assert first["guards"] == {
        "invalid_now": 0,
        "outside_now": ["pressure"],
        "invalid": 0,
        "outside": {"temp": 0, "pressure": 1, "flow": 0},
    }
    second = asked(service, [[0, None, 0], [2, 0, 0], [0, 0, 0]])
    assert second["action"][0] == SAFE
    assert second["action"][1] != SAFE
    assert second["guards"] == {
        "invalid_now": 1,
        "outside_now": ["temp"],
        "invalid": 1,
        "outside": {"temp": 1, "pressure": 1, "flow": 0},
    }
    assert asked(service, [0, 0, 0])["guards"]["invalid_now"] == 0
    assert service.health()["flagged"] == {"invalid": 1, "outside": {"temp": 1, "pressure": 1, "flow": 0}}
    assert service.health()["on_invalid"] == "safe_action"


def test_a_policy_that_remembers_begins_again_at_a_reset(make: Make) -> None:
    service = make(history=3)
    steps = [asked(service, [0.1 * i, 0, 0])["action"] for i in range(3)]
    assert asked(service, [0.0, 0, 0])["action"] != steps[0]
    assert service.reset() == {"reset": True}
    assert [asked(service, [0.1 * i, 0, 0])["action"] for i in range(3)] == steps


def test_health_tells_the_files_the_versions_and_the_counts(make: Make, run: Path) -> None:
    service = make()
    asked(service, [[0, 0, 0]] * 5)
    service.refuse()
    told = service.health()
    names = ("policy.safetensors", "policy.json")
    sums = {name: hashlib.sha256((run / "policy" / name).read_bytes()).hexdigest() for name in names}
    assert 0 <= told.pop("cpu_seconds") <= told.pop("seconds") + 1
    assert told == {
        "status": "ok",
        "policy": {"sha256": sums, "run": "a_run", "history": 1},
        "observations": ["temp", "pressure", "flow"],
        "actions": ["valve", "pump"],
        "on_invalid": "error",
        "versions": {
            "mopo_pl": mopo_pl.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "requests": {"answered": 1, "refused": 1},
        "states": 5,
        "flagged": {"invalid": 0, "outside": {"temp": 0, "pressure": 0, "flow": 0}},
    }
