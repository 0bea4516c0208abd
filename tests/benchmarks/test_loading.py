"""The log by which loading is measured is one that the doctor lets pass."""

from pathlib import Path

import loading

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.findings import worst
from mopo_pl.data.log.opening import open_dataset


def test_the_log_has_no_defect(tmp_path: Path) -> None:
    path = loading.write("npz", 5000, tmp_path)
    dataset = open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={})
    assert worst(dataset.findings) == "OK", dataset.findings
