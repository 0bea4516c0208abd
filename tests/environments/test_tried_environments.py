"""An environment is tried before training, and an evaluation ends."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from mopo_pl.environments import episodes
from mopo_pl.environments.by_id import make_environment, tried_environment
from mopo_pl.errors import InputError


class Endless(gymnasium.Env):
    """Never ends; every step is rewarded by 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(0.25, 1, (2,), np.float32)

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.acted: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.acted.append(action)
        return np.zeros(3, np.float32), 1.0, False, False, {}


class OldReset(Endless):
    def reset(self) -> np.ndarray:  # type: ignore[override]
        return np.zeros(3)


class OldStep(Endless):
    def step(self, action: np.ndarray) -> Any:
        return np.zeros(3, np.float32), 1.0, False, {}


class FailingReset(Endless):
    def reset(self, **arguments: Any) -> Any:
        raise OSError("no display\n  found")


class FailingStep(Endless):
    def step(self, action: np.ndarray) -> Any:
        raise ZeroDivisionError("division by zero")


class ExitingStep(Endless):
    def step(self, action: np.ndarray) -> Any:
        raise SystemExit(3)


class NoReward(Endless):
    def step(self, action: np.ndarray) -> Any:
        return np.zeros(3, np.float32), np.nan, False, False, {}


class Wider(Endless):
    def step(self, action: np.ndarray) -> Any:
        return np.zeros(4, np.float32), 1.0, False, False, {}


class Unmade(Endless):
    def __init__(self, **arguments: Any) -> None:
        raise FileNotFoundError("walker3d.xml")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Registers a class as Some-v0, without the checker of Gymnasium, with a limit of steps or none."""

    def add(kind: type, limit: int | None = None) -> None:
        spec = EnvSpec(
            "Some-v0", entry_point=kind, max_episode_steps=limit, disable_env_checker=True, order_enforce=False
        )
        monkeypatch.setitem(gymnasium.registry, "Some-v0", spec)

    episodes._say_cut.cache_clear()
    yield add
    episodes._say_cut.cache_clear()


TRIED = "mend it or its env_kwargs, or set env_id=none"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            OldReset,
            "fails when its reset is tried: TypeError: OldReset.reset() got an unexpected keyword argument 'seed'; "
            + TRIED,
        ),
        (FailingReset, "fails when its reset is tried: OSError: no display found; " + TRIED),
        (FailingStep, "fails when its step is tried: ZeroDivisionError: division by zero; " + TRIED),
        (ExitingStep, "fails when its step is tried: SystemExit: 3; " + TRIED),
    ],
)
def test_what_an_environment_raises_becomes_one_sentence(register: Callable[..., None], kind: type, says: str) -> None:
    register(kind)
    with pytest.raises(InputError) as error:
        tried_environment("Some-v0", {})
    assert error.value.problems == [f"env_id=Some-v0 {says}"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            OldStep,
            "step of env_id=Some-v0 must give observation, reward, terminated, truncated and info, as in Gymnasium; it gave 4 "
            "values",
        ),
        (NoReward, "step of env_id=Some-v0 gave reward with NaN or inf: mend the environment, or choose another"),
        (Wider, "step of env_id=Some-v0 gave observation of shape [4], not [3]"),
    ],
)
def test_values_that_are_not_gymnasiums_become_one_sentence(
    register: Callable[..., None], kind: type, says: str
) -> None:
    register(kind)
    with pytest.raises(InputError) as error:
        tried_environment("Some-v0", {})
    assert error.value.problems == [says]


def test_an_environment_that_cannot_be_made_becomes_one_sentence(register: Callable[..., None]) -> None:
    register(Unmade)
    with pytest.raises(InputError) as error:
        make_environment("Some-v0", {"xml_file": "x"})
    assert error.value.problems == [
        "env_id=Some-v0 cannot be created with env_kwargs={'xml_file': 'x'}: FileNotFoundError: walker3d.xml"
    ]


def test_the_tried_action_is_the_one_within_the_bounds_nearest_to_zero(register: Callable[..., None]) -> None:
    register(Endless)
    environment = tried_environment("Some-v0", {})
    assert isinstance(environment.unwrapped, Endless)
    assert [action.tolist() for action in environment.unwrapped.acted] == [[0.25, 0.25]]


def test_a_log_is_refused_with_the_environment_that_does_not_step(
    register: Callable[..., None], make_log: Callable[..., Any]
) -> None:
    register(FailingStep)
    with pytest.raises(InputError, match="its step is tried: ZeroDivisionError"):
        make_log(env_id="Some-v0")
    register(Endless)
    assert make_log(env_id="Some-v0").env_id == "Some-v0"


@pytest.fixture
def make_log(npz_log: Any) -> Callable[..., Any]:
    from mopo_pl.config.schema import DataConfig
    from mopo_pl.data.log.opening import open_dataset

    data = DataConfig(action_low=[-1.0, -1.0], action_high=[1.0, 1.0])
    return lambda env_id: open_dataset(name=str(npz_log), data=data, env_id=env_id, env_kwargs={})


# Evaluations end ------------------------------------------------------------------------------------------------------


def ones(observations: np.ndarray) -> np.ndarray:
    return np.ones((len(observations), 2), np.float32)


def play(count: int, **arguments: Any) -> episodes.Episodes:
    return episodes.evaluate(ones, env_id="Some-v0", env_kwargs={}, numbers=range(count), seed=0, **arguments)


def test_an_episode_without_a_limit_is_cut_and_that_is_said_once(
    register: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(episodes, "MOST_STEPS", 7)
    register(Endless)
    for _ in range(2):
        played = play(3)
        assert (played.lengths.tolist(), played.returns.tolist()) == ([7] * 3, [7.0] * 3)
    assert capsys.readouterr().out == (
        "warning: env_id=Some-v0 has no limit of steps: episodes are cut after 7; env_kwargs.max_episode_steps sets one\n"
    )


def test_a_limit_of_its_own_is_kept(
    register: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(episodes, "MOST_STEPS", 7)
    register(Endless, limit=12)
    assert play(2).lengths.tolist() == [12, 12]
    assert capsys.readouterr().out == ""


def test_what_is_heeded_at_a_step_ends_the_evaluation(register: Callable[..., None]) -> None:
    register(Endless)
    asked: list[int] = []

    def before_step() -> None:
        asked.append(len(asked))
        if len(asked) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(2, before_step=before_step)
    assert len(asked) == 20
