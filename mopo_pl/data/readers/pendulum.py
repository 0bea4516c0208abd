"""Collection of the example log: a mediocre controller in Gymnasium's Pendulum-v1, stored as a Minari dataset."""

import shutil
import warnings

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from mopo_pl.data.readers.minari import read_minari, store
from mopo_pl.data.readers.minari_store import written_aside
from mopo_pl.errors import InputError

ENV_ID = "Pendulum-v1"
EPISODE = 200
"""Time limit of Pendulum, in steps."""


def pendulum_id(steps: int, seed: int) -> str:
    """Return the id of the dataset in the Minari store, which contains the length and the seed."""
    return f"mopo_pl/pendulum-{steps}-s{seed}-v0"


def collect_pendulum(steps: int, seed: int) -> str:
    """Collect the log unless the store has it, and return its id.

    The controller swings the pendulum up by energy pumping, and holds it near the top with a PD law. Its gain and the size of its exploration
    noise are drawn for each episode, so that the log contains a range of good and bad episodes.
    """
    name = pendulum_id(steps, seed)
    if not _is_whole(name, steps):
        shutil.rmtree(store() / name, ignore_errors=True)
        with written_aside(name), warnings.catch_warnings():
            # Minari warns about a missing author and a missing link to the code.
            warnings.simplefilter("ignore", UserWarning)
            minari.create_dataset_from_buffers(
                name,
                buffer=_episodes(steps, seed),
                env=ENV_ID,
                algorithm_name="energy pumping and PD with random gains and noise",
                description="A mediocre scripted controller with exploration noise, collected by mopo_pl.",
            )
    return name


def _is_whole(name: str, steps: int) -> bool:
    """Return whether the store holds the complete, undamaged log."""
    if not (store() / name).is_dir():
        return False
    try:
        return len(read_minari(name).rewards) == steps
    except InputError:
        return False


def _episodes(steps: int, seed: int) -> list[EpisodeBuffer]:
    rng = np.random.default_rng(seed)
    environment = gymnasium.make(ENV_ID)
    episodes = []
    for number in range(-(-steps // EPISODE)):
        episodes.append(_episode(environment, rng, number, min(EPISODE, steps - number * EPISODE)))
    environment.close()
    return episodes


def _episode(environment: gymnasium.Env, rng: np.random.Generator, number: int, length: int) -> EpisodeBuffer:
    skill, noise_size = rng.uniform(0.0, 0.6), rng.uniform(0.3, 1.5)
    observation, _ = environment.reset(seed=int(rng.integers(2**31)))
    observations, actions, rewards = [observation], [], []
    noise = 0.0
    for _ in range(length):
        # The noise is an Ornstein-Uhlenbeck process, as white noise averages out before it moves the pendulum to new states.
        noise = 0.9 * noise + noise_size * np.sqrt(1 - 0.9**2) * rng.standard_normal()
        action = np.array([np.clip(skill * _control(observation) + noise, -2.0, 2.0)], np.float32)
        observation, reward, _, _, _ = environment.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
    last = [False] * (length - 1) + [True]
    return EpisodeBuffer(
        id=number,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminations=[False] * length,
        truncations=last,
    )


def _control(observation: np.ndarray) -> float:
    """Return the torque in the environment's units, before clipping, from (cos θ, sin θ, θ')."""
    cosine, sine, speed = map(float, observation)
    if cosine > 0.85:
        return -8.0 * np.arctan2(sine, cosine) - 2.0 * speed
    # Energy relative to rest in the upright position (m = l = 1, g = 10, inertia 1/3); energy is pumped in while it is negative.
    energy = speed**2 / 6 + 5 * (cosine - 1)
    return float(-2.0 * np.sign(energy) * np.sign(speed if speed else 1.0))
