"""A run whose numbers are no numbers ends with a sentence, not with a policy."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Train = Callable[..., Path]


def all_finite(checkpoint: Path) -> bool:
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_a_policy_that_diverges_is_not_exported(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train("run", "sac.critic_lr=1e30", "checkpoint.every_minutes=0", code=1)
    said = capsys.readouterr().err
    assert "policy/critic_loss" in said
    assert "not finite at update 20; try a larger penalty.coef" in said
    assert not (folder / "policy").exists()
    assert not (folder / "result.json").exists()


def test_an_ensemble_that_diverges_is_not_used(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train("run", "dynamics.learning_rate=1e30", code=1)
    assert "try a lower dynamics.learning_rate" in capsys.readouterr().err
    assert not (folder / "dynamics.json").exists()
    assert not list((folder / "checkpoints").iterdir())


def test_the_last_good_checkpoint_is_kept(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second epoch's losses are made NaN: what was saved after the first must stay as it was."""
    from mopo_pl.nn.logged_module import NamedMeans

    compute, calls = NamedMeans.compute, []

    def compute_then_nan(self: NamedMeans) -> dict[str, torch.Tensor]:
        calls.append(self)
        lost = len(calls) > 3  # two epochs of the ensemble and one of the policy came before
        return {name: value * float("nan") if lost else value for name, value in compute(self).items()}

    monkeypatch.setattr(NamedMeans, "compute", compute_then_nan)
    folder = train("run", "checkpoint.every_minutes=0", code=1)
    assert "not finite at update 40" in capsys.readouterr().err
    kept = sorted(path.name for path in (folder / "checkpoints").glob("policy-*.ckpt"))
    assert kept == ["policy-000000-000020.ckpt"]
    assert all_finite(folder / "checkpoints" / kept[0])
