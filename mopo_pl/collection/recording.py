"""Record the steps of a behaviour in parts on disk, so that a killed collection continues after its last complete part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mopo_pl.collection.behaviours import Behaviour
from mopo_pl.collection.progress import StepProgress
from mopo_pl.environments.stepping import SteppedEnvironment
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.storage.atomic_write import atomic_write

PART = 5000
"""Number of steps of a part. A kill loses fewer steps than this."""


def record(
    environment: SteppedEnvironment, behaviour: Behaviour, *, steps: int, seed: int, folder: Path, name: str
) -> np.ndarray:
    """Take `steps` steps in an environment, or continue those stored in `folder`; return them [steps, R] float32.

    Raises InputError if a part is damaged.

    Args:
        environment: The environment.
        behaviour: Chooses the actions.
        steps: Number of steps, including those stored before.
        seed: Seed of the behaviour's generator.
        folder: Folder of the parts.
        name: Name of the files of the parts, of the random stream, and of the progress line.

    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator_for(seed, f"{name} actions"))))
    parts: list[np.ndarray] = []
    state: dict[str, Any] = {}
    done = 0
    while (path := folder / f"{name}-{len(parts):06d}.npz").exists():
        rows, state = _read(path)
        parts.append(rows)
        done += len(rows)
    if state:
        environment.restore(state["environment"])
        rng.bit_generator.state = state["rng"]
    with StepProgress(name, steps, done) as progress:
        while done < steps:
            rows = np.empty((min(PART, steps - done), environment.layout.width), np.float32)
            for i in range(len(rows)):
                rows[i] = environment.step(behaviour(environment.observation, rng))
                progress.at(done + i + 1)
            _write(folder / f"{name}-{len(parts):06d}.npz", rows, environment, rng)
            parts.append(rows)
            done += len(rows)
    return np.concatenate(parts)


def _write(path: Path, rows: np.ndarray, environment: SteppedEnvironment, rng: np.random.Generator) -> None:
    state = environment.state()
    plain = {"episode": state["episode"], "rng": rng.bit_generator.state}
    arrays = {name: state[name].numpy() for name in ("actions", "observation")}
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez(
            file, allow_pickle=False, rows=rows, state=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays
        )


def _read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            plain = json.loads(file["state"].tobytes())
            environment = {"episode": plain["episode"], "actions": file["actions"], "observation": file["observation"]}
            return file["rows"], {"environment": environment, "rng": plain["rng"]}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"{path} is damaged ({error}): remove it and the parts behind it, and run the command again"
        ) from error
