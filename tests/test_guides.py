"""Commands and programs of the guides are valid."""

import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mopo_pl import Policy, cli
from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs").glob("guides/*.md"))
SMALL = [
    *("threads=1", "compile=false", "trainer.accelerator=cpu", "trainer.max_epochs=1", "sac.updates_per_epoch=5"),
    *("dynamics.max_epochs=1", "dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]", "sac.hidden_sizes=[8]"),
    *(
        "rollout.starts=10",
        "data.collect_steps=400",
        "evaluation.episodes=1",
        "evaluation.final_episodes=1",
        "estimate=false",
        "report=false",
    ),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of each line, lines that go on joined, the variables of loops set."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ").replace("$coef", "1.0").replace("$horizon", "5")
    text = text.replace("${coef}", "1.0").replace("${horizon}", "5")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


def settings(words: list[str]) -> list[str] | None:
    """What follows `train.py` or `mopo_pl train`; None for other commands, and for `resume=`, which needs its run."""
    for program in ("train.py", "train"):
        if program in words:
            given = words[words.index(program) + 1 :]
            return None if any(word.startswith("resume=") for word in given) else given
    return None


def write_files(page: Path, folder: Path) -> None:
    """The YAML files of a page, which say in their first line what they are called."""
    for block in blocks(page, "yaml"):
        name = block.splitlines()[0].removeprefix("# ")
        (folder / name).write_text(block)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_train_command_is_a_valid_configuration(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for given in filter(None, map(settings, commands(page))):
        compose([word for word in given if word != "--dry-run"])


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_sweep_is_a_valid_one(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "my_log.npz", allow_pickle=False)
    sweeps = [words[words.index("sweep") :] for words in commands(page) if "sweep" in words]
    assert bool(sweeps) == (page.stem == "sweep")
    for given in sweeps:
        assert main([*given, "--dry-run"]) == 0, given
    assert (page.stem == "sweep") == ("coef-3.0_horizon-20_s2  in ensembles/s2" in capsys.readouterr().out)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_script_is_there(page: Path) -> None:
    """But for the runner, which an export writes."""
    named = {word for words in commands(page) for word in words if word.endswith(".py")} - {"run_policy.py"}
    for script in named:
        assert (ROOT / script).is_file(), script


def test_the_mapping_of_a_plant_is_read_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "guides" / "own_log.md"
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    (script,) = [block for block in blocks(page, "python") if "plant.csv" in block]
    exec(script, {})
    write_files(page, tmp_path)
    given = [words[words.index("mopo_pl") + 1 :] for words in commands(page) if "my_plant.yaml" in words]
    assert given == [["inspect", "my_plant.yaml"]]
    assert main(given[0]) == 0
    printed = capsys.readouterr().out
    assert "rows      400, of which 8 without a true next state" in printed
    assert "episodes  8; length min 50, median 50, max 50" in printed
    assert not [line for line in printed.splitlines() if line.startswith(("WARN", "STOP"))]
    assert cli.main(["dataset=my_plant.yaml", *SMALL, "run_dir=run"]) == 0
    assert Policy.load("run")(np.array([50.0, 0.5], np.float32)).shape == (1,)


def test_the_policy_is_guarded_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "guides" / "deploy.md"
    monkeypatch.chdir(tmp_path)
    assert cli.main(SMALL) == 0
    load, guard, by_numpy, by_onnx, by_torch = blocks(page, "python")
    names: dict = {"observation": np.zeros(3, np.float32)}
    exec(load + guard, names)
    assert names["action"].shape == (1,)
    policy = names["policy"]
    assert sum(policy.outside.values()) == 0 or policy.outside_now
    exported = [words[3:] for words in commands(page) if words[:4] == ["python", "-m", "mopo_pl", "export"]]
    assert len(exported) == 2
    assert [main(words) for words in exported] == [0, 0]
    monkeypatch.syspath_prepend(tmp_path / "box")
    names["observation"] = np.full(3, np.nan)
    exec(by_numpy, names)
    assert names["action"].tolist() == [0.0]
    observations = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    expected = Policy.load("runs/latest")(observations)
    for program in (by_onnx, by_torch):
        made: dict = {"observations": observations}
        exec(program, made)
        np.testing.assert_allclose(np.asarray(made["actions"]), expected, atol=1e-4)
        assert made["outside"].shape == (7, 3)
