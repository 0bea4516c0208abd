"""Several seeds at once: each comes to what it comes to alone, in whatever manner they train."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import TINY

from mopo_pl.cli import main
from mopo_pl.config.compose import compose
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.errors import Diverged, InputError
from mopo_pl.run import seeds
from mopo_pl.run.seeds import fit_side_by_side

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]

MODEL, POLICY = "dynamics.safetensors", "policy/policy.safetensors"


@pytest.fixture
def of_seeds(train: Train, tmp_path: Path) -> Callable[..., list[Path]]:
    """Runs of seeds 3 and 4, all in one command; their folders."""

    def run(name: str, *arguments: str, code: int = 0) -> list[Path]:
        train(name, "seed=[3,4]", *arguments, code=code)
        return [tmp_path / f"{name}_s{seed}" for seed in (3, 4)]

    return run


def test_one_that_fails_does_not_stop_the_others(
    of_seeds: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, fitted = DynamicsModule.on_train_epoch_end, []

    def fail_first(module: DynamicsModule) -> None:
        fit(module)
        fitted.append(module)
        if module is fitted[0]:
            raise Diverged("the loss is not finite", 1, "another seed")

    monkeypatch.setattr(DynamicsModule, "on_train_epoch_end", fail_first)
    failed, other = of_seeds("some", "seeds=in_turn", code=1)
    assert not (failed / "result.json").exists()
    assert (other / "result.json").exists()
    said = capsys.readouterr()
    assert "seed 3 ended by an error" in said.out
    assert "error:" in said.err


def test_side_by_side_each_run_is_the_one_it_is_alone_to_the_bit(
    train: Train, of_seeds: Any, same_weights: Same, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = of_seeds("pair", "seeds=side_by_side")
    said = capfd.readouterr().out
    for seed, folder in zip((3, 4), folders, strict=True):
        assert same_weights(folder, train(f"alone{seed}", f"seed={seed}"), POLICY)
        assert f"seed {seed}  policy   mean return" in said
        assert "\nthreads: 1\n" in (folder / "config.yaml").read_text()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Sequence[str]]]:
    """Lets runs side by side be small programs, which get their seed as an argument; the arguments that each run was given."""

    def arm(program: str) -> list[Sequence[str]]:
        seen: list[Sequence[str]] = []

        def start(arguments: Sequence[str]) -> subprocess.Popen:
            seen.append(arguments)
            seed = str(compose(arguments).seed)
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen([sys.executable, "-c", program, seed], **pipes)

        monkeypatch.setattr(seeds, "start_training", start)
        return seen

    return arm


def test_one_that_is_killed_is_named_and_all_others_begin(
    started: Any, of_seeds: Any, train: Train, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    seen = started("import os, sys; os.kill(os.getpid(), 9) if sys.argv[1] == '1' else print('done')")
    train("run", "seeds=side_by_side", "seed=[1,2,3,4,5]", code=137)
    said = capfd.readouterr().out
    assert "seed 1 was killed by SIGKILL" in said
    assert [f"seed {seed}  done" in said for seed in range(1, 6)] == [False, True, True, True, True]
    assert len(seen) == 5


def test_a_reader_that_leaves_does_not_stop_the_runs(
    started: Any, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More lines than a pipe holds, to a standard output that is closed."""
    started("print('a line of progress\\n' * 20000)")
    monkeypatch.setattr(sys, "stdout", Broken())
    train("run", "seeds=side_by_side", "seed=[1,2]")


class Broken(io.StringIO):
    """A pipe that nobody reads any more once the runs speak."""

    def write(self, text: str) -> int:
        if text.startswith("seed"):
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize("name", ["plain", "a #b", "a: b", "it's", 'a "b"', "[1]"])
def test_folders_of_any_name_are_passed_on(started: Any, tmp_path: Path, name: str) -> None:
    seen = started("")
    folder = tmp_path / name
    assert main([*TINY, "seeds=side_by_side", "seed=[1,2]", f"run_dir={json.dumps(str(folder))}"]) == 0
    assert sorted(str(compose(arguments).run_dir) for arguments in seen) == [f"{folder}_s1", f"{folder}_s2"]


@pytest.fixture
def four_of_which_two_train(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A command for four seeds side by side, two at a time, whose first two are in their policies."""
    command = [sys.executable, "-m", "mopo_pl", "train", *TINY, "seeds=side_by_side", "seed=[1,2,3,4]"]
    long = ["trainer.max_epochs=2000", f"run_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    with (
        subprocess.Popen([*command, *long], stdout=subprocess.PIPE, text=True, env=environment) as process,
        ExitStack() as ending,
    ):
        ending.callback(process.kill)  # whatever fails, it must not train for hours
        rows, deadline = [tmp_path / f"run_s{seed}" / "metrics.jsonl" for seed in (1, 2)], time.monotonic() + 120
        while not all(file.exists() and "policy" in file.read_text() for file in rows):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield process


def test_a_signal_reaches_all_that_train_and_none_begins_after_it(
    four_of_which_two_train: subprocess.Popen, tmp_path: Path
) -> None:
    four_of_which_two_train.send_signal(signal.SIGINT)
    said = four_of_which_two_train.communicate(timeout=60)[0]
    assert four_of_which_two_train.returncode == 130
    assert said.count("saved. Continue with: python train.py resume=") == 2
    assert not (tmp_path / "run_s3").exists()


@pytest.mark.slow
def test_runs_whose_parent_was_killed_end(four_of_which_two_train: subprocess.Popen) -> None:
    parent = four_of_which_two_train.pid
    by_thread = [file.read_text().split() for file in Path(f"/proc/{parent}/task").glob("*/children")]
    children = list(itertools.chain(*by_thread))
    assert len(children) >= 2
    four_of_which_two_train.kill()
    four_of_which_two_train.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(("apart", "ended"), [(0.4, False), (0.6, True)])
def test_a_signal_that_comes_twice_within_half_a_second_counts_once(
    apart: float, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(number: int) -> None:
        raise Died

    now, told = [100.0], list[int]()
    monkeypatch.setattr("mopo_pl.distributed.signals.time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = SignalHandler()
    with watch.installed(lambda: told.append(1)):
        signal.raise_signal(signal.SIGUSR1)
        now[0] += apart
        monkeypatch.setattr(signal, "raise_signal", die)
        with pytest.raises(Died) if ended else nullcontext():
            watch._receive(signal.SIGUSR1, None)
    assert watch.received == signal.SIGUSR1
    assert told == [1]


@pytest.mark.parametrize(
    ("arguments", "threads", "manner"),
    [
        ([], 2, "side_by_side"),
        ([], 1, "in_turn"),
        (["threads=2"], 4, "side_by_side"),
        (["threads=4"], 4, "in_turn"),
        (["threads=3"], 4, "in_turn"),
        (["seeds=in_turn"], 2, "in_turn"),
        (["stage=dynamics"], 2, "side_by_side"),
    ],
)
def test_on_a_cpu_several_threads_are_shared_out(
    arguments: list[str], threads: int, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    side_by_side = fit_side_by_side(compose(["trainer.accelerator=cpu", *arguments]))
    assert ("side_by_side" if side_by_side else "in_turn") == manner


def test_nothing_begins_where_one_folder_is_taken(train: Train, of_seeds: Any, tmp_path: Path) -> None:
    train("taken_s4", "stage=dynamics")
    of_seeds("taken", code=2)
    assert not (tmp_path / "taken_s3").exists()


def test_runs_of_several_processes_each_train_one_after_another() -> None:
    several = ["trainer.accelerator=cpu", "trainer.devices=2"]
    assert not fit_side_by_side(compose(several))
    with pytest.raises(InputError, match="seeds=side_by_side is for runs of one process each"):
        fit_side_by_side(compose(["seeds=side_by_side", *several]))


def test_the_manner_that_was_removed_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"seeds=stacked: .*side_by_side"):
        compose(["seeds=stacked"])
