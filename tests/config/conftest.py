"""The command line, asked in process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from mopo_pl.cli import main


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, so that a file left behind is seen."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., DictConfig]:
    """What --print-config says to the arguments."""

    def read(*arguments: str) -> DictConfig:
        assert main([*arguments, "--print-config"]) == 0, capsys.readouterr().err
        found = OmegaConf.create(capsys.readouterr().out)
        assert isinstance(found, DictConfig)
        return found

    return read


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], workplace: Path) -> Callable[..., list[str]]:
    """The problems of arguments that must be refused: exit code 2, one line each on stderr, nothing done.

    Asked by --print-config unless they say otherwise, as what is wrongly accepted would train for hours.
    """

    def read(*arguments: str) -> list[str]:
        harmless = "--dry-run" in arguments or "trainer.fast_dev_run=true" in arguments
        assert main([*arguments, *([] if harmless else ["--print-config"])]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert all(line.startswith("error: ") for line in err.splitlines())
        assert list(workplace.iterdir()) == []
        return [line.removeprefix("error: ") for line in err.splitlines()]

    return read
