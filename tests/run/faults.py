"""Faults and what a user reads: the rows of the table in docs/reliability.md.

`python tests/run/faults.py` prints the table from what really happens; `test_faults.py` holds the page to it.
"""

import contextlib
import errno
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import torch
from tiny import TINY

from mopo_pl.cli import main
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.nn.logged_module import NamedMeans
from mopo_pl.run.files.folder import RunFolder

ROWS = 300


@dataclass(frozen=True)
class Fault:
    """A fault, how it is brought about, and what is left after it."""

    what: str
    happen: Callable[["Place"], int]
    code: int
    kept: str


@dataclass
class Place:
    """Where a fault happens: a folder for the log and the run."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log.npz"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def write_log(self, **replaced: Any) -> str:
        """A log of three observations and an action; None leaves a key out."""
        rng = np.random.default_rng(0)
        arrays = {
            "observations": rng.standard_normal((ROWS, 3)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (ROWS, 1)).astype(np.float32),
            "rewards": rng.standard_normal(ROWS).astype(np.float32),
            "terminals": np.zeros(ROWS, bool),
            "timeouts": np.arange(1, ROWS + 1) % 50 == 0,
            **replaced,
        }
        np.savez(self.log, allow_pickle=False, **{key: value for key, value in arrays.items() if value is not None})
        return f"dataset={self.log}"

    def train(self, *arguments: str) -> int:
        return main([*TINY, *arguments, f"run_dir={self.run}"])

    def own_log(self, *arguments: str, **replaced: Any) -> int:
        return self.train(self.write_log(**replaced), "termination=never", *arguments)

    def resume(self, *arguments: str) -> int:
        return main([f"resume={self.run}", *arguments])

    def started(self, *arguments: str) -> None:
        """A run that was stopped in its second policy epoch."""
        with stopping(35):
            assert self.train("checkpoint.every_minutes=0", *arguments) == 130


@contextlib.contextmanager
def stopping(batch: int, number: int = signal.SIGINT) -> Iterator[None]:
    """Lets the watch see a signal in the so-many-th batch."""
    asked = []

    def received(watch: SignalHandler) -> int | None:
        asked.append(watch)
        return number if len(asked) == batch else None

    with patch.object(SignalHandler, "received", property(received, lambda self, value: None), create=True):
        yield


@contextlib.contextmanager
def nan_from(call: int) -> Iterator[None]:
    """Makes the means of epochs NaN, from the so-many-th epoch of both stages on."""
    compute, calls = NamedMeans.compute, []

    def spoilt(metric: NamedMeans) -> dict[str, torch.Tensor]:
        calls.append(metric)
        return {name: value * (float("nan") if len(calls) >= call else 1) for name, value in compute(metric).items()}

    with patch.object(NamedMeans, "compute", spoilt):
        yield


@contextlib.contextmanager
def full_disk(ending: str) -> Iterator[None]:
    """No room for a file of that ending."""
    fsync = os.fsync

    def full(number: int) -> None:
        if os.readlink(f"/proc/self/fd/{number}").endswith(f"{ending}.part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with patch.object(os, "fsync", full):
        yield


def _nan_row(place: Place) -> int:
    observations = np.zeros((ROWS, 3), np.float32)
    observations[17, 1] = np.nan
    return place.own_log(observations=observations)


def _truncated_hdf5(place: Place) -> int:
    path = place.folder / "log.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((5000, 3), np.float32)
    path.write_bytes(path.read_bytes()[:3000])
    return place.train(f"dataset={path}")


def _text_as_npz(place: Place) -> int:
    place.log.write_text("step,reward\n1,2\n")
    return place.train(f"dataset={place.log}")


def _occupied(place: Place) -> int:
    place.started()
    return place.train()


def _unwritable(place: Place) -> int:
    place.folder.joinpath("run").write_text("a file")
    return place.train()


def _finished(place: Place) -> int:
    assert place.train() == 0
    return place.resume()


def _changed_log(place: Place) -> int:
    arguments = (place.write_log(), "termination=never")
    place.started(*arguments)
    place.write_log(rewards=np.arange(ROWS, dtype=np.float32))
    return place.resume()


def _changed_config(place: Place) -> int:
    place.started()
    config = place.run / "config.yaml"
    config.write_text(config.read_text().replace("discount: 0.99", "discount: 0.9"))
    return place.resume()


def _other_processes(place: Place) -> int:
    place.started()
    provenance = place.run / "provenance.json"
    provenance.write_text(provenance.read_text().replace('"processes": 1', '"processes": 2'))
    return place.resume()


def _beside_resume(place: Place) -> int:
    place.started()
    return place.resume("penalty.coef=1")


def _more_epochs(place: Place) -> int:
    place.started()
    return place.resume("trainer.max_epochs=3")


def _fewer_epochs(place: Place) -> int:
    place.started()
    return place.resume("trainer.max_epochs=1")


def _no_checkpoint(place: Place) -> int:
    place.started()
    for path in (place.run / "checkpoints").glob("policy-*"):
        path.unlink()
    return place.resume()


def _damaged_checkpoint(place: Place) -> int:
    place.started()
    newest = max((place.run / "checkpoints").glob("policy-*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    return place.resume()


def _run_of_an_older_version(place: Place) -> int:
    place.started()
    (place.run / "provenance.json").rename(place.run / "origin.json")
    return place.resume()


def _damaged_provenance(place: Place) -> int:
    place.started()
    (place.run / "provenance.json").write_text("{}")
    return place.resume()


def _missing_provenance(place: Place) -> int:
    place.started()
    (place.run / "provenance.json").unlink()
    return place.resume()


def _damaged_checksum_file(place: Place) -> int:
    place.started()
    max((place.run / "checkpoints").glob("policy-*.json")).write_text("[5]")
    return place.resume()


def _damaged_rows(place: Place) -> int:
    place.started()
    rows = place.run / "metrics.jsonl"
    rows.write_bytes(b'{"stage": "policy"}\n{garbage}\n\xff\n' + rows.read_bytes())
    return place.resume()


def _damaged_records(place: Place) -> int:
    place.started("logger=csv")
    (place.run / "logs/records.json").write_text("[5]")
    return place.resume()


def _trained_by_another(place: Place) -> int:
    place.started()
    with RunFolder(place.run).locked():
        return place.resume()


def _own(text: str, setting: str) -> Callable[[Place], int]:
    """A module of the user's own, with that function in it."""

    def happen(place: Place) -> int:
        name = f"own_{abs(hash(text))}"
        (place.folder / f"{name}.py").write_text(f"import torch\n\ndef own(*given):\n    {text}\n")
        with patch.object(sys, "path", [str(place.folder), *sys.path]):
            return place.train(f"{setting}={name}:own")

    return happen


def _damaged_ensemble(place: Place) -> int:
    place.started()
    path = place.run / "dynamics.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return place.resume()


def _within(context: Any, *arguments: str) -> Callable[[Place], int]:
    def happen(place: Place) -> int:
        with context():
            return place.train("checkpoint.every_minutes=0", *arguments)

    return happen


def _other_ensemble(place: Place) -> int:
    assert main([*TINY, "stage=dynamics", f"run_dir={place.folder / 'other'}"]) == 0
    log = place.write_log(observations=np.zeros((ROWS, 4), np.float32))
    return place.train(log, "termination=never", "stage=policy", f"dynamics_from={place.folder / 'other'}")


def _torchrun(place: Place) -> int:
    with patch.dict(os.environ, {"WORLD_SIZE": "2"}):
        return place.train()


def _no_compiler(place: Place) -> int:
    with patch("shutil.which", lambda name: None), patch("torch.cuda.is_available", lambda: False):
        return place.train("compile=true")


def _args(*arguments: str) -> Callable[[Place], int]:
    return lambda place: place.train(*arguments)


def _log(*arguments: str, **replaced: Any) -> Callable[[Place], int]:
    return lambda place: place.own_log(*arguments, **replaced)


NOTHING, CHECKPOINT = "nothing is written", "the last checkpoint"

FAULTS = [
    Fault("a mistyped key", _args("rollout.horizn=5"), 2, NOTHING),
    Fault("a wrong type", _args("dynamics.members=many"), 2, NOTHING),
    Fault("several mistakes at once", _args("dynamics.elites=9", "rollout.horizon=0", "presett=paper"), 2, NOTHING),
    Fault("an unknown choice", _args("preset=papers"), 2, NOTHING),
    Fault("a flag Lightning refuses in manual optimisation", _args("trainer.gradient_clip_val=1.0"), 2, NOTHING),
    Fault("a strategy that shards weights", _args("trainer.strategy=fsdp"), 2, NOTHING),
    Fault("half precision with a loss scaler", _args("trainer.precision=16-mixed"), 2, NOTHING),
    Fault("a duration that is none", _args("trainer.max_time=soon"), 2, NOTHING),
    Fault("several nodes without a launcher", _args("trainer.num_nodes=2"), 2, NOTHING),
    Fault("two processes of torchrun, one device", _torchrun, 2, NOTHING),
    Fault("`compile=true` without a compiler", _no_compiler, 2, NOTHING),
    Fault(
        "a logger with wrong arguments",
        _args("logger={csv: {colour: red}}"),
        2,
        "a run before its training: `resume=RUN logger=…`",
    ),
    Fault("a log that is not there", _args("dataset=nowhere.npz"), 2, NOTHING),
    Fault("a log that is no archive", _text_as_npz, 2, NOTHING),
    Fault("a torn HDF5 file", _truncated_hdf5, 2, NOTHING),
    Fault("a key that is missing", _log(rewards=None), 2, NOTHING),
    Fault("arrays of unequal length", _log(rewards=np.zeros(ROWS - 1, np.float32)), 2, NOTHING),
    Fault("a value that is no number", _nan_row, 2, NOTHING),
    Fault("actions beyond their bounds", _log(actions=np.full((ROWS, 1), 1.5, np.float32)), 2, NOTHING),
    Fault("no rule for the end of episodes", lambda place: place.train(place.write_log()), 2, NOTHING),
    Fault("an unknown environment", _log("env_id=NoSuch-v7"), 2, NOTHING),
    Fault("an environment of another shape", _log("env_id=MountainCarContinuous-v0"), 2, NOTHING),
    Fault("an ensemble of another shape", _other_ensemble, 2, NOTHING),
    Fault("a run folder that holds a run", _occupied, 2, "that run"),
    Fault("a run folder that cannot be made", _unwritable, 2, NOTHING),
    Fault("`resume=` of a folder that holds no run", lambda place: place.resume(), 2, NOTHING),
    Fault("`resume=` of a finished run", _finished, 0, "the run as it is"),
    Fault("`resume=` after the log has changed", _changed_log, 2, "the run as it is"),
    Fault("`resume=` after the configuration was edited", _changed_config, 2, "the run as it is"),
    Fault("`resume=` with a setting that matters", _beside_resume, 2, "the run as it is"),
    Fault("`resume=` with a setting that does not", _more_epochs, 0, "everything; the run goes on"),
    Fault("`resume=` with fewer epochs than were begun", _fewer_epochs, 2, "the run as it is"),
    Fault("`resume=` on another number of processes", _other_processes, 2, "the run as it is"),
    Fault("`resume=` before the first checkpoint", _no_checkpoint, 0, "the stage before"),
    Fault("a damaged newest checkpoint", _damaged_checkpoint, 0, "the one before it; the run goes on"),
    Fault("a damaged ensemble", _damaged_ensemble, 2, "the rest of the run"),
    Fault("`resume=` of a run that an earlier version began", _run_of_an_older_version, 2, "the run as it is"),
    Fault("a missing `provenance.json`", _missing_provenance, 0, "everything; the run goes on"),
    Fault("a damaged `provenance.json`", _damaged_provenance, 2, "the run as it is"),
    Fault("a damaged checksum file of a checkpoint", _damaged_checksum_file, 0, "the one before it; the run goes on"),
    Fault("damaged lines in `metrics.jsonl`", _damaged_rows, 0, "the other rows; the run goes on"),
    Fault("a damaged `logs/records.json`", _damaged_records, 0, "everything; the run goes on"),
    Fault("a run that another command trains", _trained_by_another, 2, "that run"),
    Fault("an own rule that fails", _own("raise OSError('no such luck')", "termination"), 2, NOTHING),
    Fault("an own rule of another shape", _own("return given[0] > 0", "termination"), 2, NOTHING),
    Fault("an own penalty below 0", _own("return -given[0][0, :, 0] - 1", "penalty.name"), 2, NOTHING),
    Fault("an own penalty that writes in place", _own("return given[1].zero_()[0, :, 0]", "penalty.name"), 2, NOTHING),
    Fault("a coefficient that is no number", _args("penalty.coef=.inf", "sac.actor_lr=.nan"), 2, NOTHING),
    Fault("a loss that is no number, policy", _within(lambda: nan_from(4)), 1, CHECKPOINT),
    Fault("a loss that is no number, ensemble", _within(lambda: nan_from(2)), 1, CHECKPOINT),
    Fault("a model that runs away", _args("rollout.range_widths=0", "rollout.max_dropped=0"), 1, CHECKPOINT),
    Fault("a full disk at a checkpoint", _within(lambda: full_disk("policy-000001-000020.ckpt")), 1, CHECKPOINT),
    Fault("a full disk at a refresh", _within(lambda: full_disk(".rows")), 1, CHECKPOINT),
    Fault("Ctrl-C", _within(lambda: stopping(35)), 130, "a checkpoint of that batch"),
    Fault("SIGTERM", _within(lambda: stopping(35, signal.SIGTERM)), 143, "a checkpoint of that batch"),
    Fault("SIGUSR1", _within(lambda: stopping(35, signal.SIGUSR1)), 138, "a checkpoint of that batch"),
]

TELLING = (
    "error:",
    "stopped by",
    "is finished",
    "there is no checkpoint",
    "damaged",
    "changed since",
    "is missing:",
)


def bring_about(fault: Fault, folder: Path) -> tuple[int, list[str]]:
    """Exit code, and the lines that speak of the fault, with names for what differs from run to run."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = fault.happen(Place(folder))
    lines = [line for line in said.getvalue().splitlines() if any(word in line for word in TELLING)]
    if len(lines) > 1 and lines[0].startswith("stopped by"):
        lines = lines[1:]  # of the run that came before the fault
    return code, [_plain(line, folder) for line in lines]


def _plain(line: str, folder: Path) -> str:
    for path, name in ((folder / "run", "RUN"), (folder / "log.npz", "LOG.npz"), (folder, "FOLDER")):
        line = line.replace(str(path), name)
    line = re.sub(r"own_\d+", "module", line)
    line = re.sub(r"^error: \d+% of", "error: …% of", re.sub(r"\b[0-9a-f]{12,64}\b", "…", line))
    return line.replace("|", "\\|").replace("`", "'")


def row(fault: Fault, lines: list[str]) -> str:
    """The fault's row of the table."""
    return f"| {fault.what} | {'<br>'.join(f'`{line}`' for line in lines)} | {fault.code} | {fault.kept} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in FAULTS:
        with tempfile.TemporaryDirectory() as name:
            print(row(one, bring_about(one, Path(name))[1]), flush=True)

__all__ = ["FAULTS", "Fault", "bring_about", "row"]
