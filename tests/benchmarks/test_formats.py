"""A log in four formats: the same rows to the bit, whatever its numbers are."""

import csv
from pathlib import Path

import formats
import numpy as np
import pytest

from mopo_pl.environments.dmsd import DMSD

ROWS = 230


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Two episodes of DMSD of 100 steps, and 30 of a third that the file's end cuts."""
    environment, rng = DMSD(), np.random.default_rng(0)
    taken: dict[str, list[object]] = {key: [] for key in ("obs", "action", "next_obs", "reward", "done", "truncated")}
    observation, _ = environment.reset(seed=0)
    for step in range(ROWS):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        following, reward, *_ = environment.step(action)
        cut = step % 100 == 99
        for key, value in zip(taken, (observation, action, following, reward, 0.0, float(cut)), strict=True):
            taken[key].append(value)
        observation = environment.reset()[0] if cut else following
    return {key: np.array(values, np.float32) for key, values in taken.items()}


def test_four_formats_give_the_same_log_to_the_bit(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    paths = formats.write_routes(arrays, tmp_path)
    whole, *others = (formats.opened(path) for path in paths.values())
    assert whole.env_id is None
    assert np.array_equal(whole.transitions.observations.numpy(), arrays["obs"])
    assert np.array_equal(whole.transitions.next_observations.numpy(), arrays["next_obs"])
    assert whole.episode_ends.tolist() == [100, 200, 230]
    assert whole.finished.tolist() == [True, True, False]
    assert [list(formats.differences(whole, other)) for other in others] == [[], [], []]
    names = [other.names.observations for other in others]
    assert names[:2] == [formats.OBSERVATIONS] * 2
    assert names[2] == tuple(f"observation.state.{name}" for name in formats.OBSERVATIONS)


def test_a_differing_bit_is_found(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    other = {key: array.copy() for key, array in arrays.items()}
    other["obs"].view(np.uint32)[77, 3] ^= 1
    logs = [
        formats.opened(formats.write_routes(each, tmp_path / name)["npz"])
        for name, each in (("one", arrays), ("two", other))
    ]
    found = list(formats.differences(*logs))
    assert {"rows", "hash"} <= set(found)
    assert "ends of episodes" not in found


def test_short_texts_of_a_csv_file_are_read_back_to_the_same_float32(tmp_path: Path) -> None:
    """Every exponent, subnormal numbers and the largest: the file holds the shortest text of each float32."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 30_000, np.uint64).astype(np.uint32)
    bits[:6] = [0, 0x80000000, 1, 0x007FFFFF, 0x7F7FFFFF, 0xFF7FFFFF]
    values = bits.view(np.float32)
    values = values[np.isfinite(values)][:29_000].reshape(-1, 10)
    rows = len(values)
    arrays = {
        "obs": values[:, :6],
        "next_obs": values[:, :6],
        "action": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "reward": values[:, 7],
        "done": np.ones(rows, np.float32),
        "truncated": np.zeros(rows, np.float32),
    }
    with np.errstate(all="ignore"):
        mapped = formats.write_routes(arrays, tmp_path)
        from mopo_pl.config.compose import compose
        from mopo_pl.data.log.opening import read

        data = compose([f"dataset={mapped['csv']}"]).data
        raw = read(str(data.source), data)
    with (tmp_path / "log.csv").open() as file:
        assert max(map(len, next(iter(list(csv.reader(file))[5:])))) <= 16
    assert np.array_equal(raw.observations.astype(np.float32).view(np.uint32), values[:, :6].copy().view(np.uint32))
    assert np.array_equal(raw.rewards.astype(np.float32).view(np.uint32), values[:, 7].copy().view(np.uint32))
