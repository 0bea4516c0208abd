"""`benchmarks/health.py`: which settings of a stored run it judges with."""

from pathlib import Path

import health
import pytest

from mopo_pl.run.files.folder import RunFolder


@pytest.mark.parametrize(("stored", "after"), [("health: {after: 7}", 7), ("seed: 0", 5000)])
def test_a_run_is_judged_from_the_update_that_it_names(tmp_path: Path, stored: str, after: int) -> None:
    """A run of a version before the key has its default."""
    (tmp_path / "config.yaml").write_text(f"{stored}\nsac: {{alpha_max: null}}\na_later_key: 1\n")
    config = health.settings_of(RunFolder(tmp_path))
    assert config.health.after == after
    assert config.sac.alpha_max is None
