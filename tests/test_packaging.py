"""What is installed, and under which names."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "train.py", "mopo_pl", "callbacks", "conf", "tests")
TINY = [
    *("threads=1", "compile=false", "trainer.accelerator=cpu", "termination=never", "trainer.max_epochs=1"),
    *("dynamics.max_epochs=1", "dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]", "sac.hidden_sizes=[8]"),
    *("sac.updates_per_epoch=5", "rollout.starts=10"),
]

In = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Every file of the wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> In:
    """Runs Python in a new environment that holds the wheel and sees the packages it needs, outside any checkout of it.

    The environment stands in a git repository of somebody else's.
    """
    place = tmp_path_factory.mktemp("elsewhere")
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", *command], cwd=place, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "venv")], check=True, timeout=120)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # A line in a .pth file is a path alone: an editable install of this checkout over there is not followed.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*arguments: str) -> str:
        command = [str(place / "venv" / "bin" / "python"), *arguments]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


# Contents


def test_a_wheel_installs_mopo_pl_and_nothing_else_at_the_top(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mopo_pl"}


@pytest.mark.parametrize("folder", ["mopo_pl", "callbacks"])
def test_a_wheel_holds_every_module(names: set[str], folder: str) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
    prefix = "mopo_pl/" if folder == "callbacks" else ""
    assert modules
    assert {prefix + module for module in modules} <= names


def test_a_wheel_holds_every_choice_the_hit_rates_and_the_marker_of_types(names: set[str]) -> None:
    choices = {f"mopo_pl/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(choices) > 20
    assert choices <= names
    assert {"mopo_pl/py.typed", "mopo_pl/diagnostics/estimates/hit_rates.json"} <= names


def test_a_wheel_holds_every_template(names: set[str]) -> None:
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "mopo_pl").rglob("*.j2")}
    assert "mopo_pl/comparison/compare.html.j2" in templates
    assert templates <= names


# Use


def test_the_wheel_is_what_is_imported(elsewhere: In) -> None:
    code = "import mopo_pl, sys, pathlib; print(pathlib.Path(sys.prefix) in pathlib.Path(mopo_pl.__file__).parents)"
    assert elsewhere("-c", code) == "True\n"


def test_a_run_trains_outside_the_checkout(elsewhere: In, npz_log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output = elsewhere("-m", "mopo_pl", "train", f"dataset={npz_log}", *TINY, f"run_dir={folder}")
    assert "policy   not scored" in output
    assert (folder / "policy" / "policy.safetensors").exists()
    assert "<h1>log.npz</h1>" in (folder / "report.html").read_text()  # its template is in the wheel
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == 5
    assert result["git_commit"] is None


def test_choices_are_found_outside_the_checkout(elsewhere: In) -> None:
    output = elsewhere("-m", "mopo_pl", "train", "dataset=hopper-medium-v2", "preset=d4rl-v2", "--print-config")
    assert "coef: 5.0" in output


@pytest.mark.parametrize("name", ["callbacks", "conf", "tests", "train"])
def test_no_top_level_name_is_taken_by_a_wheel(elsewhere: In, name: str) -> None:
    found = elsewhere("-c", f"import importlib.util; print(importlib.util.find_spec({name!r}))")
    assert found == "None\n"


@pytest.mark.parametrize("name", ["callbacks", "conf", "tests", "train"])
def test_no_top_level_name_is_taken_by_an_editable_install(tmp_path: Path, name: str) -> None:
    code = f"import importlib.util as util, mopo_pl; print(mopo_pl.__file__, util.find_spec({name!r}))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ROOT / 'mopo_pl' / '__init__.py'} None\n"


def test_a_callback_has_one_name_and_one_class_object() -> None:
    from mopo_pl import callbacks
    from mopo_pl.callbacks import member_selection

    assert callbacks.MemberSelection is member_selection.MemberSelection
    assert callbacks.MemberSelection.__module__ == "mopo_pl.callbacks.member_selection"
    assert "callbacks" not in sys.modules
