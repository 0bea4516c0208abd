"""What several tests start from: small logs with known properties."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.nn import compilation

os.environ.setdefault("WANDB_MODE", "offline")
torch.set_num_threads(1)

SLOW_SECONDS = 3 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out tests that need a GPU where there is none, since CI takes a skipped test for a mistake; give slow tests hours."""
    for item in items:
        if item.get_closest_marker("slow") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    if not torch.cuda.is_available():
        items[:] = [item for item in items if item.get_closest_marker("gpu") is None]


@pytest.fixture(scope="session", autouse=True)
def minari_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of its own: tests neither read nor change the user's."""
    store = tmp_path_factory.mktemp("minari")
    os.environ["MINARI_DATASETS_PATH"] = str(store)
    return store


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of its own too."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


@pytest.fixture
def nothing_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be compiled fails the test, instead of saying so and going on eagerly."""
    monkeypatch.setattr(compilation, "print_once", pytest.fail)


def linear_arrays(rows: int, *, obs_dim: int = 3, action_dim: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """A linear-Gaussian system in episodes of 50 steps: s' = s + 0.1·B a + 0.05 ε, r = -|s|² (never terminal)."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((action_dim, obs_dim))
    observations = np.empty((rows, obs_dim), np.float32)
    following = np.empty((rows, obs_dim), np.float32)
    actions = rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32)
    for i in range(rows):
        observations[i] = rng.uniform(-1, 1, obs_dim) if i % 50 == 0 else following[i - 1]
        following[i] = observations[i] + 0.1 * actions[i] @ gain + 0.05 * rng.standard_normal(obs_dim)
    return {
        "observations": observations,
        "actions": actions,
        "rewards": -(observations**2).sum(1).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(1, rows + 1) % 50 == 0,
        "next_observations": following,
    }


@pytest.fixture
def make_dataset() -> Callable[..., OfflineDataset]:
    """Opens the linear-Gaussian log, with arrays replaced by keyword."""

    def make(rows: int = 400, **replaced: np.ndarray | None) -> OfflineDataset:
        arrays = {**linear_arrays(rows), **replaced}
        raw = RawLog(source="a test", **arrays)  # type: ignore[arg-type]
        ones = np.ones(raw.actions.shape[1])
        return assemble(raw, name="test", bounds=(-ones, ones), time_limit=None, clip_actions=False)

    return make


@pytest.fixture
def npz_log(tmp_path: Path) -> Path:
    """The linear-Gaussian log as a file."""
    path = tmp_path / "log.npz"
    np.savez(path, allow_pickle=False, **linear_arrays(400))
    return path


@pytest.fixture
def linear() -> Callable[[int], dict[str, np.ndarray]]:
    """Makes the arrays of the linear-Gaussian log."""
    return linear_arrays
