"""Which OpenGL platform is chosen, what is said where none draws, and which images an episode gives."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from mopo_pl.environments import rendering
from mopo_pl.environments.by_id import make_environment
from mopo_pl.environments.episodes import evaluate
from mopo_pl.environments.rendering import Seen, choose_platform, refuse_blind, watched
from mopo_pl.errors import InputError

PAINTED = '''
import os
import gymnasium, numpy as np


class Painted(gymnasium.Env):
    """Ends after 7 steps; its image shows the number of steps and whether the process is to die."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None, dies=False):
        self.render_mode, self.dies = render_mode, dies

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.start = 0, self.np_random.uniform(0, 1)
        return np.full(3, self.start, np.float32), {}

    def step(self, action):
        self.steps += 1
        pay = float(self.start * self.steps + action[0])
        return np.full(3, self.steps, np.float32), pay, self.steps == 7, False, {}

    def render(self):
        if self.dies:
            os._exit(9)
        return np.full((20, 40, 3), 30 * self.steps, np.uint8)


gymnasium.register("Painted-v0", entry_point=Painted)
'''


@pytest.fixture(autouse=True)
def painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that a child process can import, and variables that end with the test."""
    (tmp_path / "painted.py").write_text(PAINTED)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("MUJOCO_GL", "SDL_VIDEODRIVER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def trials(monkeypatch: pytest.MonkeyPatch, answers: dict[str, dict[str, Any]]) -> list[str]:
    """Stands for the child processes; the platforms that were tried."""
    asked: list[str] = []

    def answer(platform: str, env_id: str, env_kwargs: object) -> dict[str, Any]:
        asked.append(platform)
        return answers[platform]

    monkeypatch.setattr(rendering, "_trial", answer)
    return asked


DRAWN = {"mujoco": True, "image": [480, 480, 3]}
NO_GL = {"mujoco": True, "error": "AttributeError: no glGetError"}


def test_the_first_platform_that_draws_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = trials(monkeypatch, {"egl": NO_GL, "osmesa": DRAWN})
    choose_platform("Hopper-v5", {})
    assert (asked, os.environ["MUJOCO_GL"], os.environ["SDL_VIDEODRIVER"]) == (["egl", "osmesa"], "osmesa", "dummy")


def test_a_platform_that_is_given_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    asked = trials(monkeypatch, {"glfw": NO_GL})
    with pytest.raises(InputError, match="tried glfw: AttributeError: no glGetError"):
        choose_platform("Hopper-v5", {})
    assert (asked, os.environ["MUJOCO_GL"]) == (["glfw"], "glfw")


def test_where_mujoco_cannot_draw_debians_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, {"egl": NO_GL, "osmesa": {"mujoco": True}})
    with pytest.raises(InputError) as error:
        choose_platform("Hopper-v5", {})
    assert error.value.problems == [
        "env_id=Hopper-v5 cannot be drawn here, as MuJoCo finds no OpenGL: on Debian and Ubuntu, apt-get install libegl1 libgl1 "
        "(or libosmesa6) is enough, without a GPU and a screen; tried egl: AttributeError: no glGetError; osmesa: the process "
        "that tried it was ended"
    ]
    assert "MUJOCO_GL" not in os.environ


def test_an_environment_without_mujoco_is_tried_once_in_a_process_of_its_own() -> None:
    choose_platform("painted:Painted-v0", {})
    assert "MUJOCO_GL" not in os.environ  # of no use to it
    with pytest.raises(InputError) as error:
        choose_platform("painted:Painted-v0", {"size": 3})
    (problem,) = error.value.problems
    assert problem.startswith("env_id=painted:Painted-v0 cannot be drawn here (TypeError: ")


def test_a_driver_that_ends_its_process_does_not_end_this_one() -> None:
    assert rendering._trial("egl", "painted:Painted-v0", {"dies": True}) == {"mujoco": False}


@pytest.mark.parametrize("modes", [[], ["human"], None])
def test_an_environment_without_images_is_refused_in_one_sentence(modes: list[str] | None) -> None:
    with pytest.raises(InputError) as error:
        refuse_blind("Some-v0", {} if modes is None else {"render_modes": modes})
    assert error.value.problems == [
        f"env_id=Some-v0 draws no images: its render_modes are {modes or []}, without rgb_array; no video can be made of it"
    ]
    refuse_blind("Some-v0", {"render_modes": ["human", "rgb_array"]})


def pulled(observations: np.ndarray) -> np.ndarray:
    return np.tanh(observations[:, :2])


def watch(act: Callable[[np.ndarray], np.ndarray], every: int, **more: Any) -> list[Seen]:
    wanted = {"wanted": lambda step: step % every == 0, "env_id": "painted:Painted-v0", "env_kwargs": {}}
    return list(watched(act, **{**wanted, "episodes": 2, "seed": 3, **more}))


def test_each_episode_is_that_of_an_evaluation_and_its_last_state_is_seen() -> None:
    seen = watch(pulled, 3)
    assert [(each.episode, each.step, each.ended) for each in seen] == [
        *((0, 0, False), (0, 3, False), (0, 6, False), (0, 7, True)),
        *((1, 0, False), (1, 3, False), (1, 6, False), (1, 7, True)),
    ]
    assert [int(each.image[0, 0, 0]) for each in seen] == [30 * each.step for each in seen]
    scored = evaluate(pulled, env_id="painted:Painted-v0", env_kwargs={}, numbers=range(2), seed=3)
    assert [each.total for each in seen if each.ended] == pytest.approx(scored.returns.tolist(), rel=1e-6)
    assert scored.returns[0] != scored.returns[1]


def test_a_policy_with_a_memory_begins_each_episode_anew() -> None:
    class Counting:
        begun = 0

        def __call__(self, observations: np.ndarray) -> np.ndarray:
            return np.zeros((len(observations), 2))

        def reset(self) -> None:
            self.begun += 1

    act = Counting()
    watch(act, 100)
    assert act.begun == 2


def test_actions_that_are_no_numbers_are_refused_and_the_environment_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    made = make_environment("painted:Painted-v0", {"render_mode": "rgb_array"})
    monkeypatch.setattr(type(made.unwrapped), "close", lambda environment: closed.append("closed"))
    monkeypatch.setattr(rendering, "make_environment", lambda *given: made)
    with pytest.raises(InputError) as error:
        watch(lambda observations: np.full((1, 2), np.nan), 1)
    assert error.value.problems == [
        "the policy gave an action that is no number after 0 steps of env_id=painted:Painted-v0"
    ]
    assert closed == ["closed"]
    assert isinstance(made, gymnasium.Env)
