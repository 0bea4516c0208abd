"""`preset=bc`: a run of behaviour cloning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl import Policy
from mopo_pl.__main__ import main as program
from mopo_pl.cli import main
from mopo_pl.config.compose import compose
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.run.preparation.plan import plan

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]
StopAfter = Callable[[int | None], int]
POLICY = "policy/policy.safetensors"
BC = ("preset=bc", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("cloned") / "run"
    assert main([*tiny, *BC, f"run_dir={folder}"]) == 0
    return folder


def test_it_leaves_a_run_folder_without_an_ensemble(cloned: Path, rows: Rows) -> None:
    assert not list(cloned.glob("dynamics*"))
    assert [(row["stage"], row["update"]) for row in rows(cloned)] == [("policy", 20), ("policy", 40)]
    assert all({"policy/cloning_error", "evaluation/return"} <= row.keys() for row in rows(cloned))
    result = json.loads((cloned / "result.json").read_text())
    assert (result["updates"], result["seconds"]["dynamics"], result["final_episodes"]) == (40, None, 3)
    assert result["last10_return"] == np.mean([row["evaluation/return"] for row in rows(cloned)])


def test_its_policy_acts_and_does_not_sample(cloned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = Policy.load(cloned)
    assert policy(np.zeros((4, 3), np.float32)).shape == (4, 1)
    with pytest.raises(ValueError, match="call the policy instead of sampling from it"):
        policy.sample(np.zeros(3, np.float32), generator_for(0, "x"))
    assert program(["evaluate", str(cloned), "--episodes", "2"]) == 0
    assert "Pendulum-v1  2 deterministic episodes" in capsys.readouterr().out


@pytest.mark.parametrize("batch", [20, 33])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(
    cloned: Path, train: Train, stop_after: StopAfter, same_weights: Same, rows: Rows, batch: int
) -> None:
    stop_after(batch)
    folder = train("run", *BC, code=130)
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    assert stop_after(None) == 40 - batch
    assert same_weights(folder, cloned, POLICY)
    assert rows(folder) == rows(cloned)


def test_no_rule_of_termination_is_needed(train: Train, npz_log: Path) -> None:
    assert (train("run", *BC, f"dataset={npz_log}") / POLICY).exists()


def test_a_plan_names_the_actor_alone(tiny: list[str]) -> None:
    lines = dict(line.split(maxsplit=1) for line in plan(compose([*tiny, *BC])).splitlines())
    assert lines["policy"] == "actor 370 parameters, 40 updates, 1 in a training step"
    assert "dynamics" not in lines
    assert lines["compiled"] == "nothing"


def test_compiling_everything_compiles_nothing(tiny: list[str]) -> None:
    lines = plan(compose([*tiny, *BC, "compile=true"]))
    assert "compiled  nothing" in lines
