"""`--dry-run`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mopo_pl.cli import main
from mopo_pl.run.preparation import plan as plan_module


@pytest.fixture
def planned(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, str]]:
    """The lines of a plan by their first word."""

    def read(*arguments: str) -> dict[str, str]:
        assert main([*tiny, *arguments, "--dry-run"]) == 0
        return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    return read


def test_a_plan_counts_rows_parameters_and_updates(planned: Callable[..., dict[str, str]]) -> None:
    lines = planned()
    assert "400 rows, 2 episodes, 3 observations, 1 actions" in lines["data"]
    assert lines["env"] == "Pendulum-v1"
    # Per member 4·16+16 + 16·16+16 + 16·8+8 weights and biases, and 4 + 4 bounds of the log variance.
    assert "7 members, 3472 parameters, at most 2 epochs of 5 steps" in lines["dynamics"]
    # Actor 3·16+16 + 16·16+16 + 16·2+2; each critic 4·16+16 + 16·16+16 + 16+1.
    assert lines["policy"].startswith(
        "actor 370, critics 738 parameters, 40 updates, 1 in a training step; 1000 imagined rows a refresh, λ 1.0 on ensemble_std"
    )


def test_a_plan_says_what_will_be_compiled(planned: Callable[..., dict[str, str]]) -> None:
    assert planned()["compiled"] == "nothing"
    assert planned("compile=[policy,rollouts]")["compiled"] == "policy, rollouts"
    assert planned("compile=auto", "trainer.max_epochs=250")["compiled"] == "policy"


@pytest.mark.parametrize(("limit", "updates"), [("null", 40), ("2", 16), ("0.5", 16), ("99", 40)])
def test_a_plan_counts_the_updates_that_the_trainer_takes(
    planned: Callable[..., dict[str, str]], limit: str, updates: int
) -> None:
    """Two epochs of 20 updates, five blocks of four: of two and a half of them, two."""
    line = planned(f"trainer.limit_train_batches={limit}", "sac.updates_per_step=4")
    assert f" {updates} updates, 4 in a training step" in line["policy"]


def test_a_plan_leaves_out_the_stage_that_will_not_run(planned: Callable[..., dict[str, str]]) -> None:
    assert "policy" not in planned("stage=dynamics")
    offline = planned("preset=offline-sac")
    assert "dynamics" not in offline
    assert "imagined" not in offline["policy"]


def test_more_updates_are_estimated_to_take_longer(planned: Callable[..., dict[str, str]]) -> None:
    """20 updates an epoch: a million epochs take hours, two of them seconds."""
    assert re.search(r"policy [\d.]+ h ", planned("trainer.max_epochs=1000000")["estimate"])
    assert re.search(r"policy \d+ s ", planned()["estimate"])


def test_a_run_to_be_resumed_can_be_planned(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={finished}", "--dry-run"]) == 0
    assert "60 updates" in capsys.readouterr().out


def test_a_plan_counts_the_memory_of_all_that_train_at_once(
    tiny: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plan passes, the run must not refuse."""
    copies: list[int] = []
    monkeypatch.setattr(plan_module, "refuse_too_little_room", lambda *_, **given: copies.append(given["copies"]))
    assert main([*tiny, "--dry-run"]) == 0
    assert main([*tiny, "trainer.devices=2", "--dry-run"]) == 0
    assert main([*tiny, "seed=[0,1]", "seeds=in_turn", "--dry-run"]) == 0
    assert main([*tiny, "seed=[0,1]", "seeds=side_by_side", "threads=1", "--dry-run"]) == 0
    at_once = min(2, torch.get_num_threads())
    assert copies == [1, 2, 1, 1, at_once, at_once]
