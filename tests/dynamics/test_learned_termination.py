"""A rule of termination that is learned from the log's terminals."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mopo_pl import assembly
from mopo_pl.config.schema import ClassifierConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.dynamics.terminals.classifier import TerminalClassifier
from mopo_pl.dynamics.terminals.rule import LearnedRule, chosen_rule, load_rule, save_rule
from mopo_pl.dynamics.terminals.samples import TerminalDataModule
from mopo_pl.dynamics.terminals.scores import area_under_curve, best_threshold, reliability
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser

OBS, ACTIONS = 3, 2
BOUND = 4.0
"""Of the actions, in the log's units."""
GAIN = torch.tensor([[0.1, -0.05, 0.0], [0.0, 0.05, 0.1]])


def following(states: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    return 0.9 * states + actions @ GAIN + 0.3 * noise


def box(s: Tensor, a: Tensor, after: Tensor) -> Tensor:
    return (after[:, 0].abs() > 1.2) | (after[:, 2] > 1.0)


def walked(rows: int, seed: int, rule: Callable[[Tensor, Tensor, Tensor], Tensor] = box) -> OfflineDataset:
    """Single steps from states within the box, each an episode of its own; `rule` says which are terminal."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.rand(rows, OBS, generator=generator) * 2 - 1
    actions = (torch.rand(rows, ACTIONS, generator=generator) * 2 - 1) * BOUND
    after = following(states, actions, torch.randn(rows, OBS, generator=generator))
    terminal = rule(states, actions, after).numpy()
    raw = RawLog(
        source="a test",
        observations=states.numpy(),
        actions=actions.numpy(),
        rewards=np.zeros(rows, np.float32),
        terminals=terminal,
        timeouts=~terminal,
        next_observations=after.numpy(),
    )
    bounds = (-BOUND * np.ones(ACTIONS), BOUND * np.ones(ACTIONS))
    return assemble(raw, name="test", bounds=bounds, time_limit=None, clip_actions=False)


def fitted(dataset: OfflineDataset, updates: int = 800) -> tuple[LearnedRule, dict]:
    """By the plain loop that a Trainer makes of the module."""
    small = ClassifierConfig(epochs=1, updates_per_epoch=updates, hidden_sizes=[64, 64], learning_rate=3e-3)
    samples = assembly.build_terminal_samples(small, dataset, seed=0)
    module = assembly.build_terminals(small, samples, seed=0)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for batch in samples:
        optimizer.zero_grad()
        log_odds = module.classifier.balanced(batch.observations, batch.actions, batch.next_observations)
        binary_cross_entropy_with_logits(log_odds, batch.terminals).backward()
        optimizer.step()
        schedule.step()
    return chosen_rule(module.classifier, samples.held_out())


@pytest.fixture(scope="module")
def learned() -> tuple[LearnedRule, dict]:
    return fitted(walked(6000, seed=0))


# Scores ---------------------------------------------------------------------------------------------------------------

LABELLED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({kind for _, kind in rows}) == 2
)


def split(rows: list[tuple[int, bool]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([float(score) for score, _ in rows]), torch.tensor([kind for _, kind in rows])


@given(LABELLED)
@settings(deadline=None)
def test_the_area_is_the_share_of_pairs_in_the_right_order_ties_counted_half(rows: list[tuple[int, bool]]) -> None:
    ours = [score for score, kind in rows if kind]
    theirs = [score for score, kind in rows if not kind]
    pairs = [1.0 if i > j else 0.5 if i == j else 0.0 for i in ours for j in theirs]
    assert area_under_curve(*split(rows)) == pytest.approx(sum(pairs) / len(pairs))


@given(LABELLED)
@settings(deadline=None)
def test_no_threshold_has_a_higher_f1(rows: list[tuple[int, bool]]) -> None:
    def f1(threshold: float) -> float:
        found = sum(kind for score, kind in rows if score >= threshold)
        false = sum(not kind for score, kind in rows if score >= threshold)
        return 2 * found / (found + false + sum(kind for _, kind in rows))

    chosen = best_threshold(*split(rows))
    assert f1(chosen.log_odds) == pytest.approx(max(f1(at / 2) for at in range(-12, 12)))
    assert chosen.found == sum(kind for score, kind in rows if score >= chosen.log_odds)
    assert chosen.false == sum(not kind for score, kind in rows if score >= chosen.log_odds)


def test_a_threshold_lies_in_the_middle_of_the_gap() -> None:
    chosen = best_threshold(torch.tensor([3.0, -2.0, 1.0, -7.0]), torch.tensor([True, False, True, False]))
    assert chosen == (-0.5, 2, 0)


def test_reliability_compares_what_was_predicted_with_what_happened() -> None:
    """Rows of probability 0.25 and 0.75, of which a half and all are terminal."""
    odds = torch.tensor([1 / 3, 1 / 3, 3.0, 3.0]).log()
    bins, error = reliability(odds, torch.tensor([True, False, True, True]))
    assert [bin.rows for bin in bins] == [2, 2]
    assert [bin.terminal for bin in bins] == [0.5, 1.0]
    assert [bin.predicted for bin in bins] == pytest.approx([0.25, 0.75])
    assert error == pytest.approx(0.25)


# The classifier -------------------------------------------------------------------------------------------------------


def classifier(share: float) -> TerminalClassifier:
    return TerminalClassifier(
        obs_dim=OBS,
        action_dim=ACTIONS,
        hidden_sizes=[8],
        share=share,
        normaliser=Normaliser(torch.arange(8.0), torch.arange(1.0, 9.0)),
        generator=torch.Generator().manual_seed(0),
    )


def test_log_odds_in_the_log_are_those_of_balanced_rows_moved_by_bayes_rule() -> None:
    """p(x|terminal)/p(x|other) is the same; the odds before looking are 1/4 to 3/4, and were 1 to 1."""
    network = classifier(share=0.25)
    parts = torch.randn(5, OBS), torch.randn(5, ACTIONS), torch.randn(5, OBS)
    odds = network.balanced(*parts).exp()
    torch.testing.assert_close(network(*parts).exp(), odds * (0.25 / 0.75))


def test_each_column_of_state_action_and_next_state_is_z_scored() -> None:
    """By hand, with the weights of the two layers."""
    network = classifier(share=0.5)
    s, a, after = torch.randn(1, OBS), torch.randn(1, ACTIONS), torch.randn(1, OBS)
    x = (torch.cat([s, a, after], -1) - torch.arange(8.0)) / torch.arange(1.0, 9.0)
    state = network.state_dict()
    hidden = x @ state["layers.0.weight"].T + state["layers.0.bias"]
    hidden = hidden * hidden.sigmoid()
    expected = hidden @ state["layers.1.weight"].T + state["layers.1.bias"]
    torch.testing.assert_close(network(s, a, after), expected[:, 0])


# What it learns -------------------------------------------------------------------------------------------------------


def test_it_tells_the_ends_of_a_box_from_other_rows(learned: tuple[LearnedRule, dict]) -> None:
    _, facts = learned
    holdout = facts["holdout"]
    assert holdout["auc"] > 0.99
    assert holdout["calibration_error"] < 0.02
    assert holdout["found"] > 0.9 * holdout["terminal"] > 100
    assert holdout["false"] < 0.1 * holdout["terminal"]
    assert sum(bin["rows"] for bin in holdout["reliability"]) == holdout["rows"]


def test_it_ends_rollouts_where_the_box_does(learned: tuple[LearnedRule, dict]) -> None:
    """Rollouts of the true system from new states, of up to ten steps, each to its end by either rule.

    Steps that only one of them ends lead to states near the border of the box.
    """
    rule, _ = learned
    generator = torch.Generator().manual_seed(7)
    states = torch.rand(400, OBS, generator=generator) * 2 - 1
    lengths = {"box": torch.full((400,), 10), "learned": torch.full((400,), 10)}
    near: list[float] = []
    for step in range(1, 11):
        actions = (torch.rand(400, ACTIONS, generator=generator) * 2 - 1) * BOUND
        after = following(states, actions, torch.randn(400, OBS, generator=generator))
        disputed = (box(states, actions, after) != rule(states, actions, after)) & (lengths["box"] >= step)
        beyond = torch.maximum(after[:, 0].abs() - 1.2, after[:, 2] - 1.0)
        near += beyond[disputed & (lengths["learned"] >= step)].abs().tolist()
        for name, ends in (("box", box(states, actions, after)), ("learned", rule(states, actions, after))):
            lengths[name] = torch.where(ends & (lengths[name] > step), step, lengths[name])
        states = after
    assert (lengths["box"] == lengths["learned"]).float().mean() > 0.88
    assert np.mean(near) < 0.1
    assert 1.5 < lengths["box"].float().mean() < 8  # about half of them end
    assert lengths["learned"].float().mean() == pytest.approx(lengths["box"].float().mean().item(), rel=0.05)


def test_it_is_given_actions_in_the_logs_units() -> None:
    """A log whose steps end where the first action exceeds 2."""
    rule, facts = fitted(walked(2000, seed=1, rule=lambda s, a, after: a[:, 0] > 2), updates=300)
    assert facts["holdout"]["auc"] > 0.99
    s = torch.zeros(2, OBS)
    actions = torch.tensor([[1.5, 0.0], [2.5, 0.0]])
    assert rule(s, actions, following(s, actions, s)).tolist() == [False, True]


def test_what_is_no_number_ends_the_episode(learned: tuple[LearnedRule, dict]) -> None:
    inside = torch.zeros(1, OBS)
    assert learned[0](inside, torch.zeros(1, ACTIONS), inside).tolist() == [False]
    assert learned[0](inside, torch.zeros(1, ACTIONS), inside * math.nan).tolist() == [True]


# Its rows -------------------------------------------------------------------------------------------------------------


def samples(dataset: OfflineDataset, **replaced: float) -> TerminalDataModule:
    arguments = {"batch_size": 10, "updates_per_epoch": 6, "holdout_fraction": 0.2, "seed": 0, **replaced}
    return TerminalDataModule(dataset, **arguments)  # type: ignore[arg-type]


def test_the_holdout_has_its_share_of_both_kinds_and_no_row_of_training() -> None:
    dataset = walked(500, seed=0)
    data, terminals = samples(dataset), int(dataset.transitions.terminals.sum())
    held_out = data.held_out()
    assert (int(held_out.terminals.sum()), len(held_out)) == (terminals // 5, terminals // 5 + (500 - terminals) // 5)
    ours, theirs, held = (set(rows.tolist()) for rows in (*data.train, data.holdout))
    assert ours | theirs | held == set(range(500))
    assert len(ours) + len(theirs) + len(held) == 500
    assert data.share == len(ours) / (len(ours) + len(theirs))


def test_half_of_each_batch_is_terminal_and_none_of_it_is_held_out() -> None:
    data = samples(walked(500, seed=0))
    kept = {tuple(row) for row in data.held_out().rows.tolist()}
    batches = list(data)
    assert len(batches) == 6
    for batch in batches:
        assert batch.terminals.sum() == 5
        assert not kept & {tuple(row) for row in batch.rows.tolist()}


def test_rows_without_a_true_next_state_are_left_out() -> None:
    dataset = walked(500, seed=0)
    dataset.next_known[::2] = False
    assert len(samples(dataset).rows) == 250


def test_an_epoch_continues_where_it_was_saved() -> None:
    whole, other = samples(walked(500, seed=0)), samples(walked(500, seed=0))
    rows = [batch.rows for batch in [*whole, *whole]]
    begun = iter(other)
    first = [next(begun).rows for _ in range(4)]
    again = samples(walked(500, seed=0))
    again.load_state_dict(other.state_dict())
    later = [batch.rows for batch in [*again, *again]]
    assert len(later) == 8
    assert all(map(torch.equal, [*first, *later], rows))


@pytest.mark.parametrize(("terminal", "name"), [(True, "not terminal"), (False, "terminal")])
def test_a_kind_without_rows_is_refused(terminal: bool, name: str) -> None:
    dataset = walked(100, seed=0, rule=lambda s, a, after: torch.full((len(s),), terminal))
    with pytest.raises(ValueError, match=f"0 rows with a true next state are {name}; at least 5 must be"):
        samples(dataset)


# Its files ------------------------------------------------------------------------------------------------------------


def test_a_saved_rule_is_read_back_to_the_bit(learned: tuple[LearnedRule, dict], tmp_path: Path) -> None:
    rule, facts = learned
    save_rule(rule, tmp_path, facts)
    again = load_rule(str(tmp_path))
    rows = walked(300, seed=3).transitions
    parts = rows.observations, rows.actions, rows.next_observations
    assert torch.equal(again.classifier(*parts), rule.classifier(*parts))
    assert torch.equal(again.threshold, rule.threshold)
    told = json.loads((tmp_path / "termination.json").read_text())
    assert told["threshold"] == pytest.approx(rule.threshold.sigmoid().item())
    assert told["holdout"] == facts["holdout"]


def test_a_rule_that_was_changed_or_is_not_there_is_refused(learned: tuple[LearnedRule, dict], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no learned rule: its run was not trained with termination=learned"):
        load_rule(tmp_path)
    save_rule(*[learned[0], tmp_path, {}])
    description = json.loads((tmp_path / "termination.json").read_text())
    changed = {**description, "shape": {**description["shape"], "share": 0.9}}
    (tmp_path / "termination.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="the hash differs"):
        load_rule(tmp_path)
    (tmp_path / "termination.json").write_text(json.dumps({**description, "shape": 3}))
    with pytest.raises(InputError, match="holds a damaged learned rule"):
        load_rule(tmp_path)
