"""A file is whole or absent."""

from pathlib import Path

import pytest

from mopo_pl.storage.atomic_write import atomic_write


def test_the_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as aside:
        aside.write_text("new")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(ValueError, match="in between"), atomic_write(tmp_path / "file") as aside:
        aside.write_text("half of the n")
        raise ValueError("in between")
    assert (tmp_path / "file").read_text() == "old"
