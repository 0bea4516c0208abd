"""Images of an environment: selection of an OpenGL platform that can draw it on this machine, and images of episodes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from mopo_pl.environments.by_id import make_environment
from mopo_pl.environments.episodes import MOST_STEPS
from mopo_pl.errors import InputError

PLATFORMS = ("egl", "osmesa")
"""Values of MUJOCO_GL that need no screen, in the order in which they are tried."""
PACKAGES = "libegl1 libgl1"
"""Debian's packages for EGL without a GPU; libegl1 alone does not install libGL. Tested on a minimal Debian 12."""
OTHER_PACKAGE = "libosmesa6"
"""Debian's package for OSMesa, which needs no other one."""
RENDERED = "rgb_array"
"""Gymnasium's render mode for images as arrays."""
PATIENCE = 120.0
"""Time limit of a trial [s]."""
FRAMES_PER_SECOND = 30
"""Steps per second of environments whose metadata have no `render_fps`."""

TRIAL = """
import json, sys
import gymnasium
import mopo_pl.environments
given = json.loads(sys.stdin.read())
try:
    environment = gymnasium.make(given["env_id"], **given["env_kwargs"])
    print(json.dumps({"mujoco": "mujoco" in sys.modules}), flush=True)
    environment.reset(seed=0)
    image = environment.render()
    print(json.dumps({"image": list(image.shape)}), flush=True)
except BaseException as error:
    print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}), flush=True)
"""
"""Program of the child process that tries to draw an image.

A separate process is used because a failed import of OpenGL cannot be repeated in the same process, and a driver may crash.
"""


def refuse_blind(env_id: str, metadata: Mapping[str, Any]) -> None:
    """Raise InputError if an environment with these `metadata` cannot draw images."""
    modes = list(metadata.get("render_modes") or [])
    if RENDERED not in modes:
        raise InputError(
            f"env_id={env_id} draws no images: its render_modes are {modes}, without {RENDERED}; no video can be made of it"
        )


def steps_per_second(metadata: Mapping[str, Any]) -> float:
    """Return the number of steps in one second of simulated time of an environment with these `metadata`."""
    return float(metadata.get("render_fps") or FRAMES_PER_SECOND)


def choose_platform(env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Set MUJOCO_GL to the first platform with which a child process can draw this environment; keep a value that is already set.

    pygame is configured for a machine without a screen. Raises InputError if the environment cannot be drawn on this machine; if
    OpenGL is the cause, the message names the packages to install.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    given = os.environ.get("MUJOCO_GL")
    failures = {}
    for platform in [given] if given else PLATFORMS:
        tried = _trial(platform, env_id, env_kwargs)
        if "image" in tried:
            if tried.get("mujoco"):
                os.environ["MUJOCO_GL"] = platform
            return
        failures[platform] = tried.get("error", "the process that tried it was ended")
        if not tried.get("mujoco"):
            raise InputError(f"env_id={env_id} cannot be drawn here ({failures[platform]})")
    told = "; ".join(f"{platform}: {failure}" for platform, failure in failures.items())
    raise InputError(
        f"env_id={env_id} cannot be drawn here, as MuJoCo finds no OpenGL: on Debian and Ubuntu, apt-get install {PACKAGES} (or "
        f"{OTHER_PACKAGE}) is enough, without a GPU and a screen; tried {told}"
    )


def _trial(platform: str, env_id: str, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a child process that tries one platform.

    `mujoco` is whether the environment uses MuJoCo, `image` the shape of the image, `error` the error message.
    """
    given = json.dumps({"env_id": env_id, "env_kwargs": {**env_kwargs, "render_mode": RENDERED}})
    environment = {**os.environ, "MUJOCO_GL": platform, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TRIAL],
            input=given,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no image within {PATIENCE:.0f} s"}
    found: dict[str, Any] = {}
    for line in ended.stdout.splitlines():
        if line.startswith('{"'):
            found |= json.loads(line)
    return found


@dataclass(frozen=True)
class Seen:
    """One image of an episode."""

    episode: int
    """Number of the episode, from 0."""
    step: int
    """Number of steps of the episode before the image."""
    image: np.ndarray
    """The image [H, W, 3] uint8."""
    total: float
    """Sum of the rewards before the image."""
    ended: bool
    """Whether the episode has ended."""


def watched(
    act: Callable[[np.ndarray], np.ndarray],
    *,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    episodes: int,
    seed: int,
    wanted: Callable[[int], bool],
) -> Iterator[Seen]:
    """Yield images of consecutive episodes, which are the same episodes as those of `evaluate` with the same seed.

    Args:
        act: Maps observations [1, D] to actions [1, A] in the environment's units. If it has a method `reset`, this is called
            before each episode.
        env_id: Gymnasium id of an environment that has passed `choose_platform`.
        env_kwargs: Arguments of `gymnasium.make`.
        episodes: Number of episodes.
        seed: Episode i begins with `reset(seed=seed + i)`.
        wanted: Returns whether the state after a number of steps of an episode is drawn. The last state is always drawn.

    Raises InputError if the policy returns an action, or the environment a reward, that is not finite.

    """
    environment = make_environment(env_id, {**env_kwargs, "render_mode": RENDERED})
    try:
        for episode in range(episodes):
            observation, _ = environment.reset(seed=seed + episode)
            if (begin := getattr(act, "reset", None)) is not None:
                begin()
            step, total, ended = 0, 0.0, False
            while not ended:
                if wanted(step):
                    yield Seen(episode, step, _image(environment), total, ended)
                action = np.asarray(act(np.asarray(observation)[None]))[0]
                if not np.isfinite(action).all():
                    raise InputError(
                        f"the policy gave an action that is no number after {step} steps of env_id={env_id}"
                    )
                observation, reward, terminal, truncated, _ = environment.step(action)
                if not np.isfinite(float(reward)):
                    raise InputError(f"env_id={env_id} returned a reward with NaN or inf: mend it, or choose another")
                step, total = step + 1, total + float(reward)
                ended = bool(terminal or truncated) or step >= MOST_STEPS
            yield Seen(episode, step, _image(environment), total, ended)
    finally:
        environment.close()


def _image(environment: gymnasium.Env) -> np.ndarray:
    return np.array(environment.render(), np.uint8)
