"""The hash of a log: the same for the same rows, another for any other."""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from mopo_pl.data.dataset import OfflineDataset

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def test_the_hash_is_sha256_of_rows_and_episode_ends(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(tiny)
    content = b"".join(struct.pack("<5f", *row) for row in dataset.transitions.rows.tolist())
    content += struct.pack("<3q", 3, 5, 6)
    assert dataset.hash == hashlib.sha256(content).hexdigest()


def test_the_hash_does_not_depend_on_the_format_of_the_file(open_log: Open, tiny: Arrays) -> None:
    wide = {key: array.astype(np.float64) for key, array in tiny.items()}
    assert len({open_log(tiny).hash, open_log(tiny, ".hdf5").hash, open_log(wide).hash}) == 1


def test_every_cell_has_its_own_effect_on_the_hash(open_log: Open, tiny: Arrays) -> None:
    hashes = [open_log(tiny).hash]
    for key, array in tiny.items():
        for row in range(len(array)):
            changed = array.copy()
            changed[row] = ~array[row] if array.dtype == bool else array[row] * 0.5 + 0.0625
            hashes.append(open_log({**tiny, key: changed}).hash)
    # A time limit says nothing new at a terminal (row 2), at the file's end (row 5), and where the next state is not the
    # next row's (row 4).
    assert len(hashes) == 1 + 6 * 6
    assert len(set(hashes)) == len(hashes) - 3
