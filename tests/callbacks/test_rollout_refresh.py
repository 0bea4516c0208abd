"""When and with what the model buffer is filled."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_stages import differing, quiet_trainer, saver, small_batches, small_refresh, small_sac, weights

from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.known_steps import Halt, KnownSteps, StateLimits
from mopo_pl.errors import Diverged, InputError
from mopo_pl.nn.random_streams import generator_for

Make = Callable[..., OfflineDataset]


class Notes(Callback):
    """What the buffer holds at the first batch of each epoch, and that batch."""

    def __init__(self, refresh: RolloutRefresh) -> None:
        self.refresh = refresh
        self.done: list[int] = []
        self.stored: list[int] = []
        self.rows: list[torch.Tensor] = []
        self.batches: list[Transitions] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Transitions, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            buffer = trainer.datamodule.model_buffer  # type: ignore[attr-defined]
            self.done.append(self.refresh.done)
            self.stored.append(len(buffer))
            self.rows.append(torch.cat([rows for _, rows in buffer.state_dict(lambda _, rows: rows.clone())["stored"]]))
            self.batches.append(batch)


def run(dataset: OfflineDataset, epochs: int, data: OfflineDataModule | None = None, **replaced: Any) -> Notes:
    refresh = small_refresh(dataset, **replaced)
    notes = Notes(refresh)
    quiet_trainer([refresh, notes], epochs).fit(small_sac(dataset), datamodule=data or small_batches(dataset))
    return notes


def contains(rows: torch.Tensor, row: torch.Tensor) -> bool:
    return bool((rows == row).all(-1).any())


def test_the_first_batch_already_has_its_share_of_imagined_rows(make_dataset: Make) -> None:
    dataset = make_dataset()
    notes = run(dataset, 1)
    (batch,) = notes.batches
    assert all(contains(dataset.transitions.rows, row) for row in batch.rows[0, :16])
    assert all(contains(notes.rows[0], row) for row in batch.rows[0, 16:])
    assert notes.stored == [40 * 3]


def test_the_newest_refreshes_are_kept_and_the_oldest_leaves(make_dataset: Make) -> None:
    assert run(make_dataset(), 4).stored == [120, 240, 240, 240]


@pytest.mark.parametrize(("every", "done"), [(1, [1, 2, 3, 4, 5]), (2, [1, 1, 2, 2, 3]), (7, [1, 1, 1, 1, 1])])
def test_the_model_is_asked_every_so_many_epochs_from_the_first_on(
    make_dataset: Make, every: int, done: list[int]
) -> None:
    assert run(make_dataset(), 5, every_n_epochs=every).done == done


def test_rollouts_start_at_logged_states(make_dataset: Make) -> None:
    dataset = make_dataset()
    notes = run(dataset, 1, horizon=1)
    starts = Transitions(notes.rows[0], dataset.obs_dim, dataset.action_dim).observations
    assert len(starts) == 40
    assert all(contains(dataset.transitions.observations, start) for start in starts)


def test_rows_after_the_end_of_an_imagined_episode_are_not_stored(make_dataset: Make) -> None:
    """Every episode ends at once: one row for each start, terminal."""
    dataset = make_dataset()
    notes = run(dataset, 1, termination=lambda s, a, after: torch.ones(len(s), dtype=torch.bool))
    stored = Transitions(notes.rows[0], dataset.obs_dim, dataset.action_dim)
    assert stored.terminals.tolist() == [1.0] * 40


def test_the_chunks_are_only_a_matter_of_memory(make_dataset: Make) -> None:
    for chunk in (1, 7, 40, 100):
        assert run(make_dataset(), 1, chunk=chunk).stored == [120]


@pytest.mark.parametrize(
    ("chunk", "sizes"), [(16, [13, 13, 13, 1]), (20, [20, 20]), (39, [20, 20]), (40, [40]), (100, [40]), (1, [1] * 40)]
)
def test_the_chunks_are_equal_but_for_fewer_starts_than_there_are_chunks(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, chunk: int, sizes: list[int]
) -> None:
    dataset, drawn = make_dataset(), []
    data = small_batches(dataset)
    sample = data.sample_starts

    def counted(count: int, generator: torch.Generator) -> torch.Tensor:
        drawn.append(count)
        return sample(count, generator)

    monkeypatch.setattr(data, "sample_starts", counted)
    quiet_trainer([small_refresh(dataset, chunk=chunk)], 1).fit(small_sac(dataset), datamodule=data)
    assert drawn == sizes


def test_rollouts_follow_the_policy_of_their_epoch(make_dataset: Make) -> None:
    """The same stream and the same starts, but the actor has moved: the second refresh is not that of a still policy."""
    dataset = make_dataset()
    moving, still = small_refresh(dataset), small_refresh(dataset)
    kept, frozen = Notes(moving), Notes(still)
    quiet_trainer([moving, kept], 2).fit(small_sac(dataset), datamodule=small_batches(dataset))
    quiet_trainer([still, frozen], 2).fit(small_sac(dataset, actor_lr=0.0), datamodule=small_batches(dataset))
    assert torch.equal(kept.rows[0], frozen.rows[0])
    assert torch.equal(kept.rows[1][:120], frozen.rows[1][:120])
    assert not torch.equal(kept.rows[1][120:], frozen.rows[1][120:])


def test_the_value_that_elites_are_compared_by_is_that_of_the_present_policy(make_dataset: Make) -> None:
    """λ_V in the refreshes of a moving policy, from its own critics and actor, by hand on the newest rows."""
    dataset = make_dataset()
    refresh = small_refresh(dataset)
    refresh.model = replace(refresh.model, coef=0.0, value_coef=0.5)
    module, kept = small_sac(dataset), Notes(refresh)
    trainer = quiet_trainer([refresh, kept], 3)
    trainer.fit(module, datamodule=small_batches(dataset))
    refresh.on_fit_start(trainer, module)
    rows = dataset.transitions[:30]
    draws = refresh.model.draw(rows.observations, generator_for(0, "x"))
    with torch.no_grad():
        costs = refresh.model.step(rows.observations, rows.actions, draws).cost
        mean, _ = refresh.model.transition.predict(torch.cat([rows.observations, rows.actions], -1))
        worth = []
        for elite in (2, 0):
            after = rows.observations + mean[elite, :, 1:]
            q = module.target_critic(after, module.actor.mean_action(after)).amin(0)
            worth.append(mean[elite, :, 0] + 0.9 * q)
    torch.testing.assert_close(costs, 0.5 * (worth[0] - worth[1]).abs() / 2, rtol=1e-4, atol=1e-5)
    assert (costs > 0).all()


@pytest.mark.parametrize("value_coef", [0.0, 0.5])
def test_a_compiled_refresh_is_the_eager_one(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value_coef: float
) -> None:
    """Traced, without machine code: three whole chunks by the graph, and the start that is left over."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any, options: Any) -> Any:
        graphs.append(graph.code)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    dataset = make_dataset()
    made = []
    for flag in (False, True):
        refresh = small_refresh(dataset, compile=flag)
        refresh.model = replace(refresh.model, value_coef=value_coef)
        kept = Notes(refresh)
        quiet_trainer([refresh, kept], 2).fit(small_sac(dataset), datamodule=small_batches(dataset))
        made.append(kept.rows)
    eager, compiled = made
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1
    assert capsys.readouterr().out.count("the rollouts' step is compiled") == 1


def test_rollouts_are_made_in_the_precision_of_training(make_dataset: Make) -> None:
    """bf16 keeps eight bits of a product's factors and its result: the same stream gives nearly the same first step."""
    dataset, rows = make_dataset(), []
    for precision in ("32-true", "bf16-mixed"):
        refresh = small_refresh(dataset, horizon=1)
        notes = Notes(refresh)
        trainer = quiet_trainer([refresh, notes], 1, precision=precision)
        trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
        rows.append(notes.rows[0])
    full, half = rows
    assert full.dtype == half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, rtol=0.02, atol=0.02)


def test_the_model_is_no_part_of_the_module_that_is_saved(make_dataset: Make) -> None:
    dataset = make_dataset()
    refresh, module = small_refresh(dataset), small_sac(dataset)
    quiet_trainer([refresh], 1).fit(module, datamodule=small_batches(dataset))
    model = set(map(id, refresh.model.transition.ensemble.parameters()))
    assert model.isdisjoint(map(id, module.parameters()))


def test_the_refresh_reports_what_it_imagined(make_dataset: Make) -> None:
    dataset = make_dataset()
    refresh = small_refresh(dataset)
    trainer = quiet_trainer([refresh], 1)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert trainer.callback_metrics["rollout/transitions"].item() == 120
    assert trainer.callback_metrics["rollout/length"].item() == 3
    assert trainer.callback_metrics["rollout/penalty"].item() > 0


@pytest.mark.parametrize("every", [1, 2])
def test_an_epoch_start_that_is_repeated_refreshes_once(make_dataset: Make, every: int) -> None:
    dataset = make_dataset()
    refresh, data, module = small_refresh(dataset, every_n_epochs=every), small_batches(dataset), small_sac(dataset)

    class Repeat(Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            refresh.on_train_epoch_start(trainer, pl_module)

    quiet_trainer([refresh, Repeat()], 3).fit(module, datamodule=data)
    assert refresh.done == data.model_buffer.refreshes == (3 if every == 1 else 2)


def test_a_resumed_run_goes_on_with_its_buffer_its_stream_and_its_schedule(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()
    unbroken = run(dataset, 4, every_n_epochs=2)
    first = small_refresh(dataset, every_n_epochs=2)
    quiet_trainer([first, saver(tmp_path)], 1).fit(small_sac(dataset), datamodule=small_batches(dataset))
    second = small_refresh(dataset, every_n_epochs=2)
    notes = Notes(second)
    trainer = quiet_trainer([second, notes], 4)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=max(tmp_path.glob("*.ckpt")))
    assert notes.done == unbroken.done[1:] == [1, 2, 2]
    for resumed, expected in zip(notes.rows, unbroken.rows[1:], strict=True):
        assert torch.equal(resumed, expected)


def halting(dataset: OfflineDataset) -> RolloutRefresh:
    """Whose rollouts nearly all leave what is known: C grows four times in each refresh."""
    refresh = small_refresh(dataset)
    rows = dataset.transitions
    known = KnownSteps(
        states=StateLimits.around(rows.observations, -0.4),
        changes=StateLimits.around(rows.next_observations - rows.observations, 1.0),
    )
    cost = torch.tensor(0.5, dtype=torch.float64)
    halt = Halt(known=known, price_limit=cost, share=0.01, least=0.5, most=1e6, lowest=-1e6)
    refresh.model = replace(refresh.model, halt=halt)
    return refresh


def test_c_goes_on_where_a_checkpoint_left_it_and_begins_anew_with_a_fit(make_dataset: Make, tmp_path: Path) -> None:
    dataset, costs = make_dataset(), []
    unbroken = halting(dataset)
    notes = Notes(unbroken)
    for watched in (Notes(unbroken), notes):
        quiet_trainer([unbroken, watched], 3).fit(small_sac(dataset), datamodule=small_batches(dataset))
        assert unbroken.model.halt is not None
        costs.append(float(unbroken.model.halt.price_limit))
    assert costs == [0.5 * 4**3] * 2
    first = halting(dataset)
    quiet_trainer([first, saver(tmp_path)], 1).fit(small_sac(dataset), datamodule=small_batches(dataset))
    second = halting(dataset)
    resumed = Notes(second)
    trainer = quiet_trainer([second, resumed], 3)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=max(tmp_path.glob("*.ckpt")))
    assert second.model.halt is not None
    assert float(second.model.halt.price_limit) == costs[0]
    for rows, expected in zip(resumed.rows, notes.rows[1:], strict=True):
        assert torch.equal(rows, expected)


def test_another_ensemble_than_that_of_the_checkpoint_is_refused(make_dataset: Make, tmp_path: Path) -> None:
    """One of equal shape would go on without a word, and the run's folder would hold a model that its policy never saw."""
    dataset = make_dataset()
    first = small_refresh(dataset)
    quiet_trainer([first, saver(tmp_path)], 1).fit(small_sac(dataset), datamodule=small_batches(dataset))
    other = small_refresh(dataset)
    with torch.no_grad():
        next(other.model.transition.ensemble.parameters()).add_(1e-3)
    for refresh, refused in ((small_refresh(dataset), None), (other, "the ensemble is another")):
        with pytest.raises(InputError, match=refused) if refused else nullcontext():
            quiet_trainer([refresh], 2).fit(
                small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=max(tmp_path.glob("*.ckpt"))
            )


def test_a_refresh_says_what_leaving_the_log_cost_in_it(make_dataset: Make) -> None:
    dataset = make_dataset()
    trainer = quiet_trainer([halting(dataset)], 2)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert trainer.callback_metrics["rollout/halt_cost"].item() == 2.0
    halted, length = (trainer.callback_metrics[f"rollout/{name}"].item() for name in ("halted", "length"))
    assert halted > 0.5
    assert trainer.callback_metrics["rollout/halt_excess"].item() == pytest.approx(halted / length / 0.01)


def test_the_callback_of_a_fit_fills_the_model_buffer_of_the_next_too(make_dataset: Make) -> None:
    dataset = make_dataset()
    refresh = small_refresh(dataset)
    rows = []
    for _ in range(2):
        notes = Notes(refresh)
        quiet_trainer([refresh, notes], 2).fit(small_sac(dataset), datamodule=small_batches(dataset))
        assert notes.done == [1, 2]
        rows.append(notes.rows[1])
    assert torch.equal(*rows)


def test_a_fit_after_a_resumed_one_does_not_go_back_to_its_streams(make_dataset: Make, tmp_path: Path) -> None:
    """Policy and callback are used once more, with a Trainer of their own: all is drawn as in any first fit."""
    dataset = make_dataset()
    quiet_trainer([small_refresh(dataset), saver(tmp_path)], 1).fit(
        small_sac(dataset), datamodule=small_batches(dataset)
    )
    sac, refresh = small_sac(dataset), small_refresh(dataset)
    resumed = quiet_trainer([refresh], 2)
    resumed.fit(sac, datamodule=small_batches(dataset), ckpt_path=max(tmp_path.glob("*.ckpt")))
    sac.load_state_dict(small_sac(dataset).state_dict())
    again = Notes(refresh)
    quiet_trainer([refresh, again], 2).fit(sac, datamodule=small_batches(dataset))
    for rows, expected in zip(again.rows, run(dataset, 2).rows, strict=True):
        assert torch.equal(rows, expected)


def test_a_larger_buffer_does_not_change_what_is_imagined_or_learned_in_the_first_epoch(make_dataset: Make) -> None:
    dataset = make_dataset()
    learned = []
    for retain in (1, 3):
        module, refresh = small_sac(dataset), small_refresh(dataset)
        quiet_trainer([refresh], 1).fit(module, datamodule=small_batches(dataset, retain=retain))
        learned.append(weights(module))
    assert differing(*learned) == []


def test_a_model_that_runs_away_ends_the_run(make_dataset: Make) -> None:
    nowhere = StateLimits(torch.full((3,), 5.0), torch.full((3,), 6.0))
    with pytest.raises(
        Diverged, match=r"100% of the imagined rollouts left the dataset.s range .* at update 0; try a larger penalty"
    ):
        run(make_dataset(), 1, limits=nowhere, max_dropped=0.5)


def test_what_runs_away_is_left_out_of_the_buffer(make_dataset: Make) -> None:
    dataset = make_dataset()
    states = dataset.transitions.observations
    narrow = StateLimits(states.mean(0) - 0.8, states.mean(0) + 0.8)
    notes = run(dataset, 1, limits=narrow, max_dropped=1.0)
    assert 0 < notes.stored[0] < 120
    assert narrow.hold(Transitions(notes.rows[0], 3, 2).next_observations).all()
