"""What a run says about itself while it trains: once each, the same after a resume, and without a change of what is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from histories import facts
from lightning.pytorch.loggers.logger import DummyLogger
from small_stages import (
    differing,
    quiet_trainer,
    saver,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    weights,
)

from mopo_pl.callbacks import PolicyHealth
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.errors import Diverged, InputError

Make = Callable[..., OfflineDataset]

FACTS = facts(
    reward_low=-100.0,
    reward_high=0.0,
    reward_mean=-50.0,
    reward_std=1e-3,
    reward_size=50.0,
    reward_top=0.0,
    behaviour_return=0.0,
    terminal_share=0.0,
    pinned_share=0.0,
    discount=0.9,
    target_entropy=-2.0,
    action_dim=2,
)
"""Of a log whose rewards hardly vary: imagined ones of about -1 lie far above it, and Q too."""
EXPLOITED = replace(FACTS, reward_high=-50.0, reward_top=-50.0)
"""Of a log that never earned as much as the model promises: a sign of level STOP."""


class Poorly(L.Callback):
    """Notes what the epochs' rollouts would say: from the second epoch on, many are dropped."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch >= 1:
            pl_module.note({"rollout/dropped_share": 0.4})


def fit(
    dataset: OfflineDataset,
    health: PolicyHealth | None,
    epochs: int,
    folder: Path,
    *,
    resume: str | None = None,
    every: int = 1,
) -> Any:
    module = small_sac(dataset)
    callbacks: list[L.Callback] = [small_refresh(dataset, every_n_epochs=every), Poorly()]
    callbacks += [health] if health else []
    trainer = quiet_trainer([*callbacks, saver(folder)], max_epochs=epochs)
    trainer.fit(module, datamodule=small_batches(dataset), ckpt_path=resume, weights_only=True)
    return module


def watch(facts: RunFacts = FACTS, *, after: int = 0, stop: bool = False) -> PolicyHealth:
    return PolicyHealth(facts, after=after, stop=stop)


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]


def newest(folder: Path) -> str:
    return str(max(folder.glob("stage-*.ckpt")))


@pytest.fixture
def dataset(make_dataset: Make) -> OfflineDataset:
    return make_dataset()


def test_each_sign_is_told_once_when_it_has_persisted(
    dataset: OfflineDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rollouts are dropped from epoch 2 on, which is known at the end of epoch 4, after 20 updates."""
    fit(dataset, watch(), 7, tmp_path)
    told = warnings(capsys)
    assert len(told) == len(set(told))
    dropped = [line for line in told if "left the range" in line]
    assert dropped == [
        "warning: update 20: 40% of the rollouts left the range of the log, or are no numbers; try a larger penalty.coef or a "
        "shorter rollout.horizon"
    ]


@pytest.mark.parametrize(("after", "update"), [(10, 25), (15, 30), (100, None)])
def test_nothing_is_told_before_three_epochs_after_the_warm_up(
    dataset: OfflineDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], after: int, update: int | None
) -> None:
    fit(dataset, watch(after=after), 7, tmp_path)
    told = warnings(capsys)
    assert bool(told) == (update is not None)
    assert {line.split(":")[1].strip() for line in told if "left the range" in line} == (
        {f"update {update}"} if update else set()
    )


@pytest.mark.parametrize("stopped", [3, 5])
def test_a_run_that_resumes_tells_what_it_would_have_told(
    dataset: OfflineDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], stopped: int
) -> None:
    whole = watch()
    fit(dataset, whole, 7, tmp_path / "whole")
    expected = warnings(capsys)
    fit(dataset, watch(), stopped, tmp_path / "parts")
    first = warnings(capsys)
    resumed = watch()
    fit(dataset, resumed, 7, tmp_path / "parts", resume=newest(tmp_path / "parts"))
    assert first + warnings(capsys) == expected
    assert len(expected) > 1
    assert resumed.rows == whole.rows
    assert len(resumed.rows) == 7


def test_rows_without_a_refresh_stay_without_one_after_a_resume(dataset: OfflineDataset, tmp_path: Path) -> None:
    fit(dataset, watch(), 3, tmp_path, every=2)
    resumed = watch()
    fit(dataset, resumed, 5, tmp_path, resume=newest(tmp_path), every=2)
    assert [row["rollout/reward"] is not None for row in resumed.rows] == [True, False, True, False, True]


def test_a_column_that_an_earlier_version_did_not_judge_is_unknown(dataset: OfflineDataset, tmp_path: Path) -> None:
    whole, resumed = watch(), watch()
    fit(dataset, whole, 3, tmp_path)
    state = whole.state_dict()
    del state["columns"]["rollout/penalty"]
    resumed.load_state_dict(state)
    assert resumed.rows == [{**row, "rollout/penalty": None} for row in whole.rows]
    assert resumed.state_dict()["columns"].keys() == whole.state_dict()["columns"].keys()


def test_what_is_trained_does_not_depend_on_it(dataset: OfflineDataset, tmp_path: Path) -> None:
    with_it = fit(dataset, watch(), 4, tmp_path / "with")
    without = fit(dataset, None, 4, tmp_path / "without")
    assert differing(weights(with_it), weights(without)) == []


def test_its_rows_are_those_that_the_module_writes(dataset: OfflineDataset, tmp_path: Path) -> None:
    """The means are computed for it before the module does, and are the same."""
    written: list[dict[str, float]] = []

    class Kept(DummyLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            written.append({"update": float(step or 0), **metrics})

    health = watch()
    module = small_sac(dataset)
    trainer = quiet_trainer([small_refresh(dataset), health], max_epochs=3, logger=Kept())
    trainer.fit(module, datamodule=small_batches(dataset))
    assert len(written) == 3
    for row, judged in zip(written, health.rows, strict=True):
        assert judged == {name: row.get(name) for name in judged}
        missing = {name for name, value in judged.items() if value is None}
        assert missing == {"evaluation/return", "rollout/beyond_log", "rollout/halt_excess"}


def test_a_value_that_is_no_number_is_taken_as_missing(dataset: OfflineDataset, tmp_path: Path) -> None:
    class Spoils(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            pl_module.note({"rollout/reward": float("nan")})

    health = watch()
    module = small_sac(dataset)
    with pytest.raises(Diverged, match="rollout/reward not finite"):
        quiet_trainer([small_refresh(dataset), Spoils(), health], max_epochs=1).fit(
            module, datamodule=small_batches(dataset)
        )
    assert health.rows[0]["rollout/reward"] is None


# health.stop


SENTENCE = (
    r"health.stop=true has ended the run: imagined steps earn -?[\d.e+-]+ on average, more than the largest reward in the log "
    r"\(-50\): the policy exploits an error of the model, at update 15; try a new run with a larger penalty.coef or a shorter "
    r"rollout.horizon; or go on with this one: resume= and health.stop=false"
)


def test_stop_ends_the_fit_after_the_epoch_is_saved(dataset: OfflineDataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=SENTENCE):
        fit(dataset, watch(EXPLOITED, stop=True), 7, tmp_path)
    assert Path(newest(tmp_path)).name == "stage-000002-000005.ckpt"


def test_a_resume_says_it_again_and_goes_on_without_stop(dataset: OfflineDataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        fit(dataset, watch(EXPLOITED, stop=True), 7, tmp_path)
    with pytest.raises(Diverged, match=SENTENCE):
        fit(dataset, watch(EXPLOITED, stop=True), 7, tmp_path, resume=newest(tmp_path))
    went_on = fit(dataset, watch(EXPLOITED), 7, tmp_path, resume=newest(tmp_path))
    assert went_on.updates == 35
    whole = fit(dataset, watch(EXPLOITED), 7, tmp_path / "whole")
    assert differing(weights(went_on), weights(whole)) == []


def test_a_sign_that_only_warns_does_not_stop(dataset: OfflineDataset, tmp_path: Path) -> None:
    assert fit(dataset, watch(stop=True), 5, tmp_path).updates == 25


def test_another_module_is_refused(dataset: OfflineDataset) -> None:
    from small_stages import small_samples

    with pytest.raises(InputError, match="PolicyHealth"):
        quiet_trainer([watch()], max_epochs=1).fit(small_dynamics(dataset), datamodule=small_samples(dataset))
