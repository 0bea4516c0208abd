"""Scoring the policy while it learns, without touching what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from small_stages import differing, quiet_trainer, saver, small_batches, small_refresh, small_sac, weights

from mopo_pl.callbacks import PolicyEvaluation
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.environments.episodes import GROUP, Episodes, evaluate
from mopo_pl.errors import InputError
from mopo_pl.sac.module import SACModule

Make = Callable[..., OfflineDataset]


class Counter(gymnasium.Env):
    """Lasts `seed % 4 + 2` steps; every step is rewarded by its action's first component, and seen as its number.

    Odd seeds end by a time limit, even ones by themselves: both are ends.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left, self.by_time = (seed or 0) % 4 + 2, (seed or 0) % 2 == 1
        return np.full(3, self.left, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        assert self.steps < 100, "played on and on after the episode's end"
        self.left -= 1
        over = self.left == 0
        observation = np.full(3, self.left, np.float32)
        return observation, float(action[0]), over and not self.by_time, over and self.by_time, {}


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        gymnasium.registry, "Counter-v0", EnvSpec("Counter-v0", entry_point=lambda **arguments: Counter())
    )


def mean_action(module: SACModule) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def act(observations: np.ndarray) -> np.ndarray:
        return module.actor.mean_action(torch.from_numpy(observations)).numpy()

    return act


def ones(observations: np.ndarray) -> np.ndarray:
    return np.ones((len(observations), 2), np.float32)


def play(episodes: int, seed: int = 0) -> Episodes:
    return evaluate(ones, env_id="Counter-v0", env_kwargs={}, numbers=range(episodes), seed=seed)


def evaluation(**replaced: Any) -> PolicyEvaluation:
    arguments: dict[str, Any] = {
        "policy_of": mean_action,
        "env_id": "Counter-v0",
        "env_kwargs": {},
        "episodes": 4,
        "every_n_epochs": 1,
        "seed": 0,
        "score": lambda value: None,
        **replaced,
    }
    return PolicyEvaluation(**arguments)


def test_returns_and_lengths_are_those_of_whole_episodes() -> None:
    """Seeds 0 to 5 make episodes of 2, 3, 4, 5, 2 and 3 steps, rewarded by 1 each."""
    episodes = play(6)
    assert episodes.lengths.tolist() == [2, 3, 4, 5, 2, 3]
    assert episodes.returns.tolist() == [2, 3, 4, 5, 2, 3]


@pytest.mark.parametrize("episodes", [1, GROUP, GROUP + 1, 2 * GROUP + 3])
def test_an_episode_does_not_depend_on_those_beside_it(episodes: int) -> None:
    assert play(episodes, seed=7).lengths.tolist() == [(7 + i) % 4 + 2 for i in range(episodes)]


def test_an_episode_of_a_policy_that_diverged_has_no_return() -> None:
    """The second environment's third step; the other episodes are as without it."""

    def act(observations: np.ndarray) -> np.ndarray:
        actions = ones(observations)
        actions[1] = np.nan if observations[1, 0] == 1 else 1.0
        return actions

    episodes = evaluate(act, env_id="Counter-v0", env_kwargs={}, numbers=range(4), seed=0)
    np.testing.assert_array_equal(episodes.returns, [2, np.nan, 4, 5])


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_an_environment_that_returns_no_number_is_named(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    class Broken(Counter):
        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            observation, reward, *rest = super().step(action)
            broken = (observation * np.nan, reward) if what == "observation" else (observation, np.nan)
            return (*broken, *rest)  # type: ignore[return-value]

    spec = EnvSpec("Broken-v0", entry_point=lambda **arguments: Broken(), disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Broken-v0", spec)
    with pytest.raises(InputError, match=f"env_id=Broken-v0 returned an? {what} with NaN"):
        evaluate(ones, env_id="Broken-v0", env_kwargs={}, numbers=range(2), seed=2)


def test_the_curve_holds_updates_and_mean_return_every_so_many_epochs(make_dataset: Make) -> None:
    dataset = make_dataset()
    scored = evaluation(policy_of=lambda module: ones, every_n_epochs=2, score=lambda value: 10 * value)
    trainer = quiet_trainer([small_refresh(dataset), scored], 4)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert scored.history == [[10.0, 3.5], [20.0, 3.5]]
    assert trainer.callback_metrics["evaluation/score"].item() == 35
    assert trainer.callback_metrics["evaluation/return_std"].item() == pytest.approx(np.std([2, 3, 4, 5]))


def test_the_policy_is_scored_after_the_epochs_updates(make_dataset: Make) -> None:
    dataset = make_dataset()
    module, scored = small_sac(dataset), evaluation()
    quiet_trainer([small_refresh(dataset), scored], 3).fit(module, datamodule=small_batches(dataset))
    assert scored.history[-1][1] == scored.run(module).returns.mean()
    assert len({value for _, value in scored.history}) == 3


def test_the_actor_is_evaluated_as_it_is_exported_and_trains_on(make_dataset: Make) -> None:
    module, modes = small_sac(make_dataset()).train(), []

    def act(module: SACModule) -> Callable[[np.ndarray], np.ndarray]:
        modes.append(module.deployed_actor.training)
        return ones

    evaluation(policy_of=act).run(module)
    assert modes == [False]
    assert module.deployed_actor.training


def test_evaluating_or_not_changes_no_weight(make_dataset: Make) -> None:
    dataset = make_dataset()
    learned = []
    for extra in ([], [evaluation()], [evaluation(episodes=7, seed=5)]):
        module = small_sac(dataset)
        quiet_trainer([small_refresh(dataset), *extra], 3).fit(module, datamodule=small_batches(dataset))
        learned.append(weights(module))
    assert differing(learned[0], learned[1]) == differing(learned[0], learned[2]) == []


def test_the_curve_survives_a_resumption(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()
    unbroken, before, after = evaluation(), evaluation(), evaluation()
    quiet_trainer([small_refresh(dataset), unbroken], 3).fit(small_sac(dataset), datamodule=small_batches(dataset))
    first = quiet_trainer([small_refresh(dataset), before, saver(tmp_path)], 2)
    first.fit(small_sac(dataset), datamodule=small_batches(dataset))
    second = quiet_trainer([small_refresh(dataset), after], 3)
    second.fit(small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=max(tmp_path.glob("*.ckpt")))
    assert after.history == unbroken.history


def test_another_fit_has_a_curve_of_its_own(make_dataset: Make) -> None:
    dataset, scored = make_dataset(), evaluation()
    for _ in range(2):
        quiet_trainer([small_refresh(dataset), scored], 2).fit(small_sac(dataset), datamodule=small_batches(dataset))
        assert [updates for updates, _ in scored.history] == [5.0, 10.0]


def test_what_remembers_is_reset_before_each_group_of_episodes() -> None:
    """Otherwise the first action of a group would depend on the group before it."""

    class Remembering:
        seen: int | None = None

        def reset(self) -> None:
            self.seen = 0

        def __call__(self, observations: np.ndarray) -> np.ndarray:
            assert self.seen is not None
            self.seen += 1
            return np.full((len(observations), 2), self.seen, np.float32)

    act = Remembering()
    act.seen = 17
    episodes = evaluate(act, env_id="Counter-v0", env_kwargs={}, numbers=range(GROUP + 2), seed=0)
    assert [int(value) for value in episodes.returns] == [sum(range(1, n + 1)) for n in episodes.lengths]
