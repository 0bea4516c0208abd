"""Read damaged and hostile files, configurations and command lines, and report each that does not end in a clear error.

`python benchmarks/fuzz.py --inputs 100000`: logs in each format, mapping files, configurations, command lines, run folders, policies,
ensembles, learned rules, checkpoints and what a served policy is sent, each with bytes cut, flipped or repeated, values of another type, huge numbers, links and
pipes. An input is well treated where it is read, or refused by a sentence and exit code 2, 1 where a run cannot go on, in less than 5 s of processor time and within 4 GB
more than the process began with. Worker processes take the inputs one after another; one that crashes or hangs is recorded and
replaced. What ended otherwise stays in `--folder`, and the exit code is 1. An input depends on its number, `--seed` and `--kinds`
alone. The same command goes on where it was killed, and tries again what ended otherwise.
"""

import argparse
import contextlib
import functools
import gzip
import io
import json
import os
import pickle
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import yaml

from mopo_pl.storage.atomic_write import atomic_write

if TYPE_CHECKING:
    from mopo_pl.policy import Policy
    from mopo_pl.policy.guards import OnInvalid

SECONDS = 5.0
"""Processor time that an input may take."""
HANG = 60.0
"""Processor time, or time without any of it, after which the worker is killed."""
MEMORY = 4 * 2**30
"""Address space beyond that of the worker at its beginning [bytes]."""
RARE = {"run": 0.2, "checkpoint": 0.2, "report": 0.05, "compare": 0.2}
"""How often kinds are drawn that train for an epoch or draw figures: they take longer than the others, of which each has 1."""
WELL_TREATED = ("read", "refused")
ODD = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        7,
        2**31,
        2**63,
        10**400,
        -(10**20),
        0.5,
        1e-320,
        1e39,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        " ",
        "none",
        "null",
        "true",
        "1e9",
        "999999999999",
        "-v0",
        "a-v0",
        "os:system",
        "../..",
        "/dev/zero",
        "~",
        "\x1b[31m",
        "\0",
    ),
    *(
        "${oc.env:HOME}",
        "???",
        "{",
        "[",
        "a: b",
        "ü" * 50,
        "x" * 5000,
        "policy",
        "Pendulum-v1",
        "Hopper-v5",
        "2020-01-01",
        ".nan",
    ),
    *(
        [],
        {},
        [None],
        [[]],
        [1, "a"],
        {"a": None},
        {"": {}},
        [0] * 300,
        {"a": {"b": {"c": []}}},
        [float("nan")],
        [[[[[[[1]]]]]]],
    ),
]
"""What a value is replaced by."""


def main() -> int:
    """Parse the command line and run the parent, or a worker of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000, help="number of inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that take inputs (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where bad inputs are kept (default: a new folder in /tmp)")
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS), help="(default: all)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options)
        return 0
    options.folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    options.folder.mkdir(parents=True, exist_ok=True)
    # In memory where there is such a place: an input is a dozen files, each flushed to disk by what writes it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as place:
        options.place = Path(place)
        return watch(options)


# The parent -----------------------------------------------------------------------------------------------------------


class Outcomes:
    """What each input came to, kept in a file of the folder, so that a run that was killed goes on from there.

    Inputs that ended otherwise than read or refused are tried again by the next run.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.path = options.folder / f"outcomes-{options.seed}.jsonl"
        self.found: dict[int, tuple[str, str]] = {}
        wanted = range(options.first, options.first + options.inputs)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            with contextlib.suppress(ValueError):  # the last line of a run that was killed
                number, kind, outcome = json.loads(line)
                if kind in options.kinds and number in wanted:
                    self.found[number] = kind, outcome
        self._lock = threading.Lock()
        self.began, self.before = time.monotonic(), len(self.found)

    def forget_bad(self) -> None:
        """Leave those out that are tried again: a worker takes what is recorded for done, whatever it came to."""
        for number in self.bad():
            del self.found[number]
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        with atomic_write(self.path) as aside:
            aside.write_text("".join(line for line in lines if any(f'"{well}"' in line for well in WELL_TREATED)))
        self.before = len(self.found)

    def add(self, number: int, kind: str, outcome: str) -> None:
        """Record one, and say how far the run is at every 500th."""
        with self._lock:
            with self.path.open("a") as file:
                file.write(json.dumps([number, kind, outcome]) + "\n")
            self.found[number] = kind, outcome
            if len(self.found) % 500 == 0:
                spent = time.monotonic() - self.began
                rate = (len(self.found) - self.before) / spent
                print(
                    f"{len(self.found)} inputs, {len(self.bad())} bad, {spent:.0f} s, {rate:.1f} a second", flush=True
                )

    def bad(self) -> list[int]:
        """Numbers of the inputs that were not well treated."""
        return sorted(number for number, (_, outcome) in self.found.items() if outcome not in WELL_TREATED)


def watch(options: argparse.Namespace) -> int:
    """Let workers try all inputs; print what they came to."""
    outcomes = Outcomes(options)
    outcomes.forget_bad()
    if not is_made(options.folder / "base"):
        make_base_once(options)
    threads = [threading.Thread(target=watch_one, args=(options, i, outcomes)) for i in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = options.inputs - len(outcomes.found)
    if left:
        raise SystemExit(f"{left} inputs were not tried: see the messages above")
    bad = [f"{kept_at(options, number, *outcomes.found[number])}" for number in outcomes.bad()]
    print(table(Counter(outcomes.found.values())))
    print("\n".join([f"{len(bad)} of {len(outcomes.found)} inputs ended otherwise than read or refused", *bad]))
    return int(bool(bad))


def make_base_once(options: argparse.Namespace) -> None:
    """Let a worker without inputs write the sound files, before several would."""
    with start(options, 0, inputs=0) as worker:
        code = worker.wait()
    if code:
        raise SystemExit("the worker does not start: see the messages above")


def watch_one(options: argparse.Namespace, which: int, outcomes: Outcomes) -> None:
    """Let one worker, and those that replace it, try every input of its share."""
    share = range(options.first + which, options.first + options.inputs, options.workers)
    while any(number not in outcomes.found for number in share):
        number, kind, worker = -1, "start", start(options, which, options.inputs)
        assert worker.stdout is not None
        with worker, selectors.DefaultSelector() as waiting:
            waiting.register(worker.stdout, selectors.EVENT_READ)
            while True:
                line = next_line(worker, waiting)
                if not line:
                    break
                event = json.loads(line)
                number, kind = event["number"], event["kind"]
                if "outcome" in event:
                    if event["outcome"] not in WELL_TREATED:
                        keep(options, which, number, kind, event["outcome"], event["said"])
                    outcomes.add(number, kind, event["outcome"])
            worker.kill()
            if number in outcomes.found:
                continue
            if kind == "start":
                if any(number not in outcomes.found for number in share):
                    print("a worker does not start: see the messages above", file=sys.stderr)
                return
            outcome = "hang" if line is None else f"crash {worker.wait()}"
            keep(options, which, number, kind, outcome, "")
            outcomes.add(number, kind, outcome)


def next_line(worker: subprocess.Popen[str], waiting: selectors.BaseSelector) -> str | None:
    """What a worker tells next, '' where it has ended, None where it hangs: waits, or computes for `HANG` seconds."""
    assert worker.stdout is not None
    began = last = spent(worker.pid)[0]
    while not waiting.select(HANG):
        now, sleeps = spent(worker.pid)
        if now - began > HANG or (sleeps and now - last < 0.1):
            return None
        last = now
    return worker.stdout.readline()


def spent(pid: int) -> tuple[float, bool]:
    """Processor time of a process [s], and whether it sleeps: one that others leave no processor to does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, True
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0] in "ST"


def start(options: argparse.Namespace, which: int, inputs: int) -> subprocess.Popen[str]:
    """Start a worker, which takes the inputs of its share that are not recorded yet."""
    words = [
        sys.executable,
        __file__,
        "--worker",
        str(which),
        "--folder",
        str(options.folder),
        "--seed",
        str(options.seed),
    ]
    words += ["--first", str(options.first), "--inputs", str(inputs), "--workers", str(options.workers)]
    words += ["--place", str(options.place), "--kinds", *options.kinds]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, bufsize=1)


def kept_at(options: argparse.Namespace, number: int, kind: str, outcome: str) -> str:
    """Where a bad input is kept, and what it came to."""
    return f"{options.folder / f'bad-{options.seed}-{number}-{kind}'}  {outcome}"


def keep(options: argparse.Namespace, which: int, number: int, kind: str, outcome: str, said: str) -> None:
    """Keep the files of an input."""
    place = options.folder / f"bad-{options.seed}-{number}-{kind}"
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(shutil.Error, OSError):  # pipes and devices are not copied
        shutil.copytree(options.place / f"current-{which}", place, symlinks=True)
    place.mkdir(exist_ok=True)
    (place / "SAID").write_text(f"{outcome}\n{said}\n", errors="replace")


def table(counts: Counter[tuple[str, str]]) -> str:
    """Counts by kind and outcome."""
    lines = []
    for kind in dict.fromkeys(kind for kind, _ in counts):
        outcomes = {outcome: count for (other, outcome), count in counts.items() if other == kind}
        told = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
        lines.append(f"{kind:<12}{sum(outcomes.values()):>8}   {told}")
    return "\n".join(lines)


# The worker -----------------------------------------------------------------------------------------------------------


def work(options: argparse.Namespace) -> None:
    """Try inputs one after another, and tell of each on standard output."""
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    cache = options.place.absolute() / f"cache-{options.worker}"
    os.environ |= {"WANDB_MODE": "offline", "MINARI_DATASETS_PATH": str(cache / "minari"), "XDG_CACHE_HOME": str(cache)}
    with contextlib.redirect_stderr(io.StringIO()):  # how far the estimates of its run are
        base = make_base(options.folder.absolute() / "base")
    done = Outcomes(options).found if options.inputs else {}
    keep_defaults()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    folder = options.place.absolute() / f"current-{options.worker}"
    os.dup2(silence, 2)
    share = range(options.first + options.worker, options.first + options.inputs, options.workers)
    for count, number in enumerate(number for number in share if number not in done):
        if count % 200 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        draw = random.Random(f"{options.seed}-{number}")
        (kind,) = draw.choices(options.kinds, [RARE.get(kind, 1.0) for kind in options.kinds])
        tell.write(json.dumps({"number": number, "kind": kind}) + "\n")
        outcome, said = try_input(kind, draw, base, folder)
        tell.write(json.dumps({"number": number, "kind": kind, "outcome": outcome, "said": said}) + "\n")


def keep_defaults() -> None:
    """Keep the defaults that each command composes its configuration from: making them takes longer than most inputs."""
    from mopo_pl.config import compose
    from mopo_pl.config.schema import Config

    make = compose.opened
    kept = pickle.dumps(make())
    compose.opened = lambda config=Config: pickle.loads(kept) if config is Config else make(config)


def try_input(kind: str, draw: random.Random, base: Path, folder: Path) -> tuple[str, str]:
    """Make an input in a folder and read it; return what it came to, and what was said."""
    from mopo_pl.errors import ActionsNotFinite, InputError

    remove(folder)
    folder.mkdir()
    make, read = KINDS[kind]
    began = time.process_time()
    said = io.StringIO()
    try:
        words = make(draw, base, folder)
        (folder / "WORDS").write_text(repr(words), errors="replace")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = read(folder, words)
        outcome = "read" if code in (0, 3) else "refused" if code in (1, 2) else f"code {code}"
        if outcome == "refused" and "error: " not in said.getvalue():
            outcome = "refused without a word"
    except InputError as error:
        outcome = "refused" if error.problems and all(error.problems) else "refused without a word"
    except ActionsNotFinite:  # of weights that are finite, and too large
        outcome = "refused"
    except SystemExit as error:  # argparse
        outcome = "refused" if error.code == 2 else f"exit {error.code}"
    except BaseException as error:  # whatever else there is, it is what is looked for
        outcome = type(error).__name__
        said.write(traceback.format_exc()[-3000:])
    if outcome in ("read", "refused") and len(said.getvalue()) > 50_000:
        outcome = "too many words"
    if outcome in ("read", "refused") and time.process_time() - began > SECONDS:
        outcome = "slow"
    return outcome, said.getvalue()[-5000:]


def remove(folder: Path) -> None:
    """Remove the files of the last input."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


# Sound files ----------------------------------------------------------------------------------------------------------


def make_base(base: Path) -> Path:
    """Write what the inputs are made from: a log in each format, and a finished run with a learned rule."""
    import h5py
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    from mopo_pl.cli import main as train

    if is_made(base):
        return base
    base.mkdir(parents=True, exist_ok=True)
    arrays = log_arrays(200)
    np.savez(base / "log.npz", allow_pickle=False, **arrays, env_id="Pendulum-v1", env_kwargs='{"g": 9.0}')
    np.savez_compressed(base / "packed.npz", allow_pickle=False, **arrays)
    with h5py.File(base / "log.hdf5", "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip" if key == "observations" else None)
        file.attrs.update({"env_id": "Pendulum-v1", "env_kwargs": "{}"})
    columns = {f"o{i}": arrays["observations"][:, i] for i in range(3)} | {"a": arrays["actions"][:, 0]}
    columns |= {"reward": arrays["rewards"], "done": arrays["terminals"], "episode": np.arange(200) // 20}
    plain = pa.table(columns)
    lists = pa.table(
        {
            "observation.state": pa.array(arrays["observations"].tolist(), pa.list_(pa.float32())),
            "action": pa.array(arrays["actions"].tolist(), pa.list_(pa.float32())),
            "next.reward": arrays["rewards"],
            "next.done": arrays["terminals"],
            "episode_index": np.arange(200) // 20,
            "frame_index": np.arange(200) % 20,
        }
    )
    csv.write_csv(plain, base / "log.csv")
    (base / "log.csv.gz").write_bytes(gzip.compress((base / "log.csv").read_bytes()))
    parquet.write_table(plain, base / "log.parquet")
    feather.write_feather(plain, str(base / "log.arrow"), compression="uncompressed")
    feather.write_feather(plain, str(base / "log.feather"), compression="lz4")
    for folder in ("lerobot/meta", "lerobot/data/chunk-000", "tables"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    features = {name: {"dtype": "float32", "shape": [1], "names": None} for name in lists.column_names}
    info = {"codebase_version": "v3.0", "total_frames": 200, "total_episodes": 10, "fps": 10, "features": features}
    (base / "lerobot/meta/info.json").write_text(json.dumps(info))
    parquet.write_table(lists, base / "lerobot/data/chunk-000/file-000.parquet")
    for part in range(2):
        parquet.write_table(plain.slice(100 * part, 100), base / f"tables/part-{part}.parquet")
    (base / "plant.yaml").write_text(MAPPING)
    settings = [*SMALL, f"dataset={base / 'log.npz'}", f"run_dir={base / 'run'}"]
    code = train(settings)
    if code:
        raise SystemExit(f"the run that inputs are made from ended with exit code {code}")
    make_sweep(base)
    return base


def is_made(base: Path) -> bool:
    """Whether all of them are there."""
    return (base / "sweep/sweep.json").exists()


def make_sweep(base: Path) -> None:
    """Write the folder of a finished sweep: the run twice, as one of an environment."""
    names = ["s0", "s1"]
    told = json.loads((base / "run/result.json").read_text()) | {"env_id": "Pendulum-v1", "final_return": -200.0}
    told |= {"final_returns": [-190.0, -210.0], "final_episodes": 2, "final_return_std": 10.0}
    for seed, name in enumerate(names):
        (base / "sweep" / name).mkdir(parents=True)
        for file in ("config.yaml", "metrics.jsonl", "provenance.json"):
            shutil.copy(base / "run" / file, base / "sweep" / name)
        (base / "sweep" / name / "result.json").write_text(json.dumps({**told, "seed": seed}))
    settings = {"seed": ["0", "1"], "dataset": ["log.npz"]}
    manifest = {"command": "a sweep", "settings": settings, "search": None, "runs": names, "ensembles": {}}
    (base / "sweep/sweep.json").write_text(json.dumps(manifest))


MAPPING = """\
data:
  source: log.csv
  columns: {observation: [o0, "o[12]"], action: a, reward: reward, terminal: done, episode: episode}
  action_low: [-2]
  action_high: [2]
env_id: none
termination: {bounds: {o0: [-5, null]}}
"""
SMALL = [
    *("termination=learned", "threads=1", "compile=false", "trainer.accelerator=cpu", "logger=csv", "env_id=none"),
    *("dynamics.max_epochs=1", "dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]", "dynamics.members=3"),
    *("dynamics.elites=2", "classifier.epochs=1", "classifier.updates_per_epoch=5", "classifier.hidden_sizes=[8]"),
    *("sac.hidden_sizes=[8]", "sac.updates_per_epoch=5", "trainer.max_epochs=2", "rollout.starts=20"),
    *("checkpoint.every_minutes=0", "data.action_low=[-2]", "data.action_high=[2]", "classifier.batch_size=16"),
]


def log_arrays(rows: int) -> dict[str, np.ndarray]:
    """A log of 3 observations and 1 action in episodes of 20 steps, of which every second ends terminal."""
    rng = np.random.default_rng(0)
    number = np.arange(1, rows + 1)
    observations = rng.standard_normal((rows, 3)).astype(np.float32)
    terminals = number % 40 == 0
    return {
        "observations": observations,
        "actions": rng.uniform(-2, 2, (rows, 1)).astype(np.float32),
        "rewards": observations[:, 0],
        "terminals": terminals,
        "timeouts": (number % 20 == 0) & ~terminals,
        "next_observations": (observations + 0.1 * rng.standard_normal((rows, 3))).astype(np.float32),
    }


# Damage ---------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes cut, flipped, repeated, left out, or replaced by extreme numbers."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 30))):
        place, length = draw.randrange(len(data) + 1), draw.choice((1, 4, 8, 100, 5000))
        what = draw.randrange(7)
        if what == 0:
            del data[place:]
        elif what == 1 and data:
            data[min(place, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif what == 2:
            data[place : place + length] = draw.randbytes(length)
        elif what == 3:
            del data[place : place + length]
        elif what == 4:
            data[place:place] = data[place : place + length] * draw.choice((1, 2, 50))
        elif what == 5:
            data[place : place + 8] = draw.choice(
                (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f")
            )
        else:
            digits = [i for i, byte in enumerate(data[:4000]) if 48 <= byte <= 57]
            if digits:
                at = draw.choice(digits)
                data[at : at + 1] = draw.choice((b"9" * 30, b"-1", b"1e999", b"nan", b"0", b"2147483648", b"9" * 5000))
    return bytes(data)


def changed(value: Any, draw: random.Random) -> Any:
    """A value of JSON or YAML with one or a few of its parts replaced, left out or added."""
    for _ in range(draw.choice((1, 1, 1, 3))):
        value = _changed(value, draw)
    return value


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        made = dict(value)
        if (what := draw.random()) < 0.1:
            del made[key]
        elif what < 0.2:
            made[str(draw.choice(ODD))[:50]] = draw.choice(ODD)
        else:
            made[key] = _changed(value[key], draw)
        return made
    if isinstance(value, list) and value and draw.random() < 0.5:
        made = list(value)
        place = draw.randrange(len(made))
        made[place] = _changed(made[place], draw)
        return made[: draw.randrange(len(made) + 1)] if draw.random() < 0.2 else made
    return draw.choice(ODD)


def other_kind_of_file(path: Path, draw: random.Random, base: Path) -> None:
    """A link, a pipe, a folder, nothing or another file in the place of one."""
    what = draw.randrange(8)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.symlink_to(draw.choice(("/dev/zero", "/etc/passwd", "/proc/self/mem", "/", "nowhere", path.name, "..")))
    elif what == 2:
        path.mkdir()
    elif what == 3:
        path.write_bytes(b"")
    elif what == 4:
        with path.open("wb") as file:
            file.truncate(draw.choice((1, 10**6, 10**8, 10**10)))
    elif what in (5, 6):
        files = [file for file in sorted(base.rglob("*")) if file.is_file() and file.stat().st_size < 10**6]
        shutil.copy(draw.choice(files), path)


def damage_file(path: Path, draw: random.Random, base: Path) -> None:
    """Damage a file by its bytes, by its values where it is JSON or YAML, or by its kind."""
    what = draw.random()
    if what < 0.12:
        other_kind_of_file(path, draw, base)
    elif path.is_symlink() or not path.is_file() or path.stat().st_size > 10**7:  # damaged before
        return
    elif what < 0.7 and path.suffix in (".json", ".jsonl", ".yaml"):
        try:
            change_values(path, draw)
        except (ValueError, IndexError, RecursionError, yaml.YAMLError):  # damaged before
            path.write_bytes(damaged(path.read_bytes(), draw))
    else:
        path.write_bytes(damaged(path.read_bytes(), draw))


def change_values(path: Path, draw: random.Random) -> None:
    """Replace values of a JSON or YAML file."""
    if path.suffix == ".yaml":
        text = yaml.safe_dump(changed(yaml.safe_load(path.read_text()), draw), allow_unicode=True)
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        place = draw.randrange(len(lines))
        lines[place] = json.dumps(changed(json.loads(lines[place]), draw))
        text = "\n".join(lines)
    else:
        text = json.dumps(changed(json.loads(path.read_text()), draw))
        if draw.random() < 0.05:
            text = draw.choice(("[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "null", '"a"'))
    path.write_text(text)


def odd_array(array: np.ndarray, draw: random.Random) -> np.ndarray:
    """An array of another type or shape, or with values that are none."""
    if array.ndim == 0 or not array.size or array.dtype.kind not in "biuf":  # odd already
        array = np.zeros(3, np.float32)
    what = draw.randrange(10)
    if what == 0:
        kind = draw.choice(
            ("i1", "u8", "f2", "f8", "c8", "?", "U3", "S3", "M8[s]", "m8[ns]", "f4,i4", "V5", ">f4", "f16")
        )
        return np.zeros(array.shape, kind)
    if what == 1:
        shapes = [
            (),
            (0,),
            (1,),
            (len(array), 0),
            (0, 3),
            array.T.shape,
            (len(array), 1, 1),
            (1, *array.shape),
            (1,) * 30,
        ]
        return np.zeros(draw.choice(shapes), array.dtype)
    if what == 2:
        return array[: draw.randrange(len(array))]
    made = array.astype(np.float64)
    if what == 3:
        return made * draw.choice((1e30, 1e300, 1e-300, 0.0, -1.0))
    made.ravel()[draw.randrange(made.size)] = draw.choice((np.nan, np.inf, -np.inf, 1e308, 2**63, -1, 0.5))
    return made


def odd_arrays(draw: random.Random) -> dict[str, Any]:
    """A log's arrays, some of them odd, renamed, missing or added."""
    arrays: dict[str, Any] = log_arrays(draw.choice((60, 60, 1, 2, 0)) or 60)
    for _ in range(draw.choice((1, 1, 2, 4))):
        key = draw.choice(list(arrays))
        what = draw.random()
        if what < 0.7:
            arrays[key] = odd_array(np.asarray(arrays[key]), draw) if np.size(arrays[key]) else np.zeros(3)
        elif what < 0.8:
            arrays.pop(key)
        elif what < 0.9:
            arrays[
                draw.choice(("obs", "dones", "reward", "extra", "episode_id", "t", "index", "is_first", "infos/x"))
            ] = np.asarray(arrays.get(key, 0))
        else:
            arrays[draw.choice(("env_id", "env_kwargs"))] = np.array(str(draw.choice(ODD)).replace("\0", ""))
        if not arrays:
            break
    return arrays


# Inputs ---------------------------------------------------------------------------------------------------------------


def npz_log(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A damaged archive, or a sound one of odd arrays."""
    path = folder / "log.npz"
    if draw.random() < 0.5:
        (np.savez if draw.random() < 0.5 else np.savez_compressed)(path, allow_pickle=False, **odd_arrays(draw))
    else:
        shutil.copy(base / draw.choice(("log.npz", "packed.npz")), path)
        damage_file(path, draw, base)
    return [str(path)]


def hdf5_log(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """As `npz_log`, with links, external storage, virtual arrays, groups and attributes."""
    import h5py

    path = folder / "log.hdf5"
    if draw.random() < 0.5:
        shutil.copy(base / "log.hdf5", path)
        damage_file(path, draw, base)
        return [str(path)]
    with h5py.File(path, "w") as file:
        for key, array in odd_arrays(draw).items():
            with contextlib.suppress(TypeError, ValueError):
                file[key] = array if array.dtype.kind not in "UMm" else str(array)
        target = draw.choice(["observations", "rewards", "episode_0", "a/b/c"])
        if target in file:
            del file[target]
        what = draw.randrange(8)
        if what == 0:
            file[target] = h5py.ExternalLink(
                draw.choice((str(base / "log.hdf5"), "log.hdf5", "/etc/passwd")), "rewards"
            )
        elif what == 1:
            file[target] = h5py.SoftLink(draw.choice(("/", f"/{target}", "/actions", "/nowhere")))
        elif what == 2:
            file.create_dataset(target, (60, 3), "f4", external=[("/etc/passwd", 0, 720)])
        elif what == 3:
            layout = h5py.VirtualLayout((60, 3), "f4")
            layout[:] = h5py.VirtualSource(str(base / "log.hdf5"), "observations", (60, 3))
            file.create_virtual_dataset(target, layout)
        elif what == 4:
            file.create_dataset(target, draw.choice([(10**12,), (10**6, 10**6), (0, 3), None]), "f4", chunks=None)
        elif what == 5:
            file.create_group(target)["self"] = h5py.SoftLink("/")
        elif what == 6:
            file.create_dataset(target, (60,), h5py.special_dtype(vlen=draw.choice((str, np.float32))))
        for name in ("env_id", "env_kwargs"):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                file.attrs[name] = draw.choice([*ODD, np.arange(3), np.zeros(0), b"\xff", "Pendulum-v1", "{}"])
    return [str(path)]


def episode_groups(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A group for each episode, of which arrays are missing, odd, of other lengths, linked, or in odd groups."""
    import h5py

    path = folder / "log.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(draw.randrange(1, 13)):
            rows = draw.choice((20, 20, 20, 1, 0))
            name = draw.choice(("data/demo_{}", "episode_{}", "run_2023/e{}", "{}"))
            if draw.random() < 0.9:
                name = "data/demo_{}"
            group = file.require_group(
                name.format(draw.choice((number, number, f"0{number}", "9" * draw.randrange(1, 400))))
            )
            for key, array in log_arrays(max(rows, 1)).items():
                if draw.random() < 0.95 and key not in group:
                    longer = key == "observations" and draw.random() < 0.5
                    group[key if key != "observations" else draw.choice(("observations", "observations/a"))] = (
                        np.concatenate([array[:rows], array[:1]]) if longer else array[:rows]
                    )
            for key in [key for key in group if draw.random() < 0.02]:
                del group[key]
                with contextlib.suppress(TypeError, ValueError):
                    match draw.randrange(5):
                        case 0:
                            group[key] = odd_array(np.zeros((20, 3), np.float32), draw)
                        case 1:
                            group[key] = h5py.SoftLink(draw.choice(("/", "/data", "/nowhere")))
                        case 2:
                            group.create_dataset(
                                key, draw.choice([(10**13, 0), (10**12,), (0, 3), (), None]), "f4", chunks=None
                            )
                        case 3:
                            group[key] = np.zeros(20, [("a", "f4"), ("b", "f4")])
                        case _:
                            group[key] = "text"
        if draw.random() < 0.1:
            file[draw.choice(("timesteps", "mask/train", "observations", "x"))] = np.zeros(draw.choice((0, 3, 40)))
    if draw.random() < 0.2:
        damage_file(path, draw, base)
    columns = draw.choice(
        ([], [], ["data.columns.observation=observations/*"], ["data.columns.action=a*"], ["data.columns.reward=none"])
    )
    return [str(path), *columns]


def table_log(*names: str) -> Callable[[random.Random, Path, Path], list[str]]:
    """Inputs of tables of these names."""

    def make(draw: random.Random, base: Path, folder: Path) -> list[str]:
        path = folder / draw.choice(names)
        shutil.copy(base / path.name, path)
        if path.suffix == ".csv" and draw.random() < 0.5:
            odd_cells(path, draw)
        elif draw.random() < 0.4 and path.suffix in (".parquet", ".arrow", ".feather"):
            odd_columns(path, draw)
        else:
            damage_file(path, draw, base)
        columns = ["data.columns.observation=[o0,o1,o2]", "data.columns.action=a", "data.columns.episode=episode"]
        return [str(path), *draw.sample(columns, draw.choice((3, 3, 3, 2, 0)))]

    return make


def odd_cells(path: Path, draw: random.Random) -> None:
    """Replace cells, headers and separators of a CSV file."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for _ in range(draw.choice((1, 3, 50))):
        line = draw.choice(lines[: draw.choice((1, 3, len(lines)))])
        what = draw.random()
        if what < 0.8 and line:
            line[draw.randrange(len(line))] = str(draw.choice(ODD)).replace("\n", " ")[:3000]
        elif what < 0.9:
            line.append("1")
        elif line:
            line.pop()
    path.write_text(
        draw.choice(",,,,;\t|").join(["", ""])[:0] + "\n".join(",".join(line) for line in lines), errors="replace"
    )


def odd_columns(path: Path, draw: random.Random) -> None:
    """Columns of other types, in Parquet or Arrow."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = pa.table({"o0": [0.0] * 30, "o1": [1.0] * 30, "o2": [2.0] * 30, "a": [0.5] * 30, "reward": [0.0] * 30})
    table = table.append_column("episode", pa.array([i // 10 for i in range(30)]))
    makers: list[Callable[[], Any]] = [
        lambda: pa.array([None] * 30),
        lambda: pa.array([b"a"] * 30),
        lambda: pa.array(["a", "1"] * 15),
        lambda: pa.array([[1.0, 2.0]] * 29 + [[1.0]]),
        lambda: pa.array([[]] * 30, pa.list_(pa.float32())),
        lambda: pa.array([{"x": 1}] * 30),
        lambda: pa.array([2**63 - 1] * 30),
        lambda: pa.array([i * 10**9 for i in range(30)], pa.timestamp("ns")),
        lambda: pa.array(["a"] * 30).dictionary_encode(),
        lambda: pa.array([float("nan"), float("inf"), 1e308] * 10),
        lambda: pa.array([[[1.0]]] * 30),
        lambda: pa.array([True, None] * 15),
        lambda: pa.array([[None, 1.0]] * 30),
        lambda: pa.array(list(range(30)), pa.duration("s")),
    ]
    for _ in range(draw.choice((1, 2))):
        name = draw.choice(table.column_names)
        table = table.set_column(table.column_names.index(name), name, draw.choice(makers)())
    if draw.random() < 0.1:
        table = table.slice(0, 0)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, str(path), compression=draw.choice(("uncompressed", "lz4", "zstd")))


def folder_log(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A folder of tables or of LeRobot with a damaged file."""
    name = draw.choice(("lerobot", "lerobot", "tables"))
    shutil.copytree(base / name, folder / name)
    damage_file(draw.choice(files_in(folder / name)), draw, base)
    columns = [] if name == "lerobot" else ["data.columns.observation=[o0,o1,o2]", "data.columns.action=a"]
    return [str(folder / name), *columns]


def mapping(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A mapping file with a sound log."""
    shutil.copy(base / "log.csv", folder)
    shutil.copy(base / "plant.yaml", folder)
    damage_file(folder / "plant.yaml", draw, base)
    return [str(folder / "plant.yaml")]


def command(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A command line of known keys with odd values, and of damaged words."""
    from mopo_pl.config.keys import known_keys
    from mopo_pl.config.sources.choices import choices

    words = []
    for _ in range(draw.choice((1, 1, 2, 5))):
        key = draw.choice([*known_keys(), "logger.csv.name", "env_kwargs.a", "termination.bounds.x", "trust", "resume"])
        if draw.random() < 0.2:
            words.append(
                f"{(group := draw.choice(('preset', 'logger', 'trainer', 'dataset')))}={draw.choice(list(choices(group)))}"
            )
            continue
        value = draw.choice(ODD)
        text = json.dumps(value) if draw.random() < 0.5 else str(value)
        words.append(f"{key}={text}")
        if draw.random() < 0.3:
            words[-1] = damaged(words[-1].encode(errors="replace"), draw).decode(errors="replace")[:10_000]
    return [*words, "--print-config"]


def configuration(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A run folder with a damaged configuration alone."""
    (folder / "run").mkdir()
    shutil.copy(base / "run/config.yaml", folder / "run")
    damage_file(folder / "run/config.yaml", draw, base)
    return [f"resume={folder / 'run'}", "--print-config"]


def files_in(folder: Path) -> list[Path]:
    """All files of a folder, in the same order everywhere; no links, which an earlier damage made and a later one would write through."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def run_folder(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A run folder with damaged files, resumed for another epoch."""
    run = folder / "run"
    shutil.copytree(base / "run", run)
    for _ in range(draw.choice((1, 1, 2))):
        path = draw.choice(files_in(run))
        damage_file(path, draw, base)
    return [f"resume={run}", "trainer.max_epochs=3", "estimate=false", "report=false"]


def of_a_run(*command: str) -> Callable[[random.Random, Path, Path], list[str]]:
    """Inputs of a command about a finished run: its folder with damaged files, and odd words."""

    def make(draw: random.Random, base: Path, folder: Path) -> list[str]:
        run = folder / "run"
        shutil.copytree(base / "run", run)
        for _ in range(draw.choice((0, 1, 1, 1, 2))):
            damage_file(
                draw.choice([path for path in files_in(run) if run / "checkpoints" not in path.parents]), draw, base
            )
        words = [*command, str(run)]
        if command[0] in ("push", "export") and draw.random() < 0.3:
            words += ["--licence", str(draw.choice(ODD))]
        if command[0] == "export" and draw.random() < 0.3:
            words += [
                "--out",
                str(draw.choice((run / "config.yaml", run / "result.json/a", run, "/dev/null", "/proc/a", "~/\0"))),
            ]
        return words

    return make


def sweep(*command: str) -> Callable[[random.Random, Path, Path], list[str]]:
    """Inputs of a command about a sweep's folder with damaged files."""

    def make(draw: random.Random, base: Path, folder: Path) -> list[str]:
        shutil.copytree(base / "sweep", folder / "sweep")
        for _ in range(draw.choice((1, 1, 2))):
            damage_file(draw.choice([folder / "sweep/sweep.json", *files_in(folder / "sweep")]), draw, base)
        return [*command, str(folder / "sweep")]

    return make


def program(folder: Path, words: Sequence[str]) -> int:
    """Run a command as `python -m mopo_pl` does, in the folder of the input."""
    from mopo_pl.__main__ import main as command_line

    return called_in(folder, command_line, words)


def called_in(folder: Path, command_line: Callable[[list[str]], int], words: Sequence[str]) -> int:
    """Call a command line from a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return command_line(list(words))
    finally:
        os.chdir(before)


def checkpoint(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """A run folder with a checkpoint of other content and a right checksum."""
    import hashlib

    import torch

    run = folder / "run"
    shutil.copytree(base / "run", run)
    path = max((run / "checkpoints").glob("policy-*.ckpt"))
    if draw.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), draw))
    else:
        state = torch.load(path, weights_only=True)
        torch.save(other_state(state, draw), path)
    checksums = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(
        json.dumps({**checksums, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    )
    return [f"resume={run}", "trainer.max_epochs=3", "estimate=false", "report=false"]


def other_state(state: Any, draw: random.Random) -> Any:
    """A checkpoint's content with a value replaced."""
    import torch

    if isinstance(state, dict) and state and draw.random() < 0.95:
        key = draw.choice(list(state))
        made = dict(state)
        if draw.random() < 0.1:
            del made[key]
        else:
            made[key] = other_state(state[key], draw)
        return made
    if isinstance(state, list) and state and draw.random() < 0.8:
        place = draw.randrange(len(state))
        return [*state[:place], other_state(state[place], draw), *state[place + 1 :]]
    if isinstance(state, torch.Tensor) and draw.random() < 0.5:
        return draw.choice(
            (
                state.double(),
                state[..., None],
                state.flatten()[:1],
                state * torch.nan if state.is_floating_point() else -state,
            )
        )
    return draw.choice([value for value in ODD if not isinstance(value, int) or abs(value) < 2**63])


def network(name: str) -> Callable[[random.Random, Path, Path], list[str]]:
    """Inputs of the two files of a policy, an ensemble or a learned rule."""

    def make(draw: random.Random, base: Path, folder: Path) -> list[str]:
        names = [f"{name}.json", f"{name}.safetensors"]
        place = base / "run/policy" if name == "policy" else base / "run"
        for file in names:
            shutil.copy(place / file, folder)
        damage_file(folder / draw.choice(names), draw, base)
        return [name]

    return make


def load_network(folder: Path, words: Sequence[str]) -> int:
    """Read a policy, an ensemble or a learned rule, and call it."""
    import torch

    from mopo_pl.dynamics.model import load_model
    from mopo_pl.dynamics.terminals.rule import load_rule, rule_facts
    from mopo_pl.policy import Policy

    if words == ["policy"]:
        policy = Policy.load(folder)
        policy(np.zeros(policy.obs_dim))
    elif words == ["dynamics"]:
        model = load_model(folder)
        inputs = torch.zeros(2, model.ensemble.obs_dim + model.ensemble.action_dim)
        model.predict(inputs)
        model.draw(inputs[:, : model.ensemble.obs_dim], torch.Generator())
    else:
        rule = load_rule(folder)
        rule_facts(folder)
        state, action = torch.zeros(2, rule.classifier.obs_dim), torch.zeros(2, rule.classifier.action_dim)
        rule(state, action, state)
    return 0


def observations(draw: random.Random, base: Path, folder: Path) -> list[str]:
    """Texts that a served policy is sent, one a line: observations of each form, damaged; and a policy with other guards."""
    names = policy_of(str(base / "run")).observations.names
    row = [0.5] * len(names)
    columns = dict(zip(names, row, strict=True))
    forms = [row, [row, row], columns, {name: [value] * 2 for name, value in columns.items()}, "reset", "health"]
    texts = []
    for _ in range(draw.choice((1, 3, 10))):
        said = changed(draw.choice(forms), draw)
        # Half of them escaped, half with the characters themselves, half of a surrogate pair among them.
        text = json.dumps(said, ensure_ascii=draw.random() < 0.5).encode(errors="surrogatepass")
        text = damaged(text, draw) if draw.random() < 0.5 else text
        texts.append(text.replace(b"\n", b" "))  # else one of random bytes is a thousand lines
    if draw.random() < 0.05:
        texts.append(draw.choice((b"[" * 2_000_000, b"0" * 1_000_001, b"[" * 900_000)))
    (folder / "lines").write_bytes(b"\n".join(texts) + draw.choice((b"", b"\n")))
    return [str(base / "run"), draw.choice(("error", "last", "safe_action"))]


@functools.cache
def policy_of(run: str) -> "Policy":
    """The policy of the run that inputs are made from."""
    from mopo_pl.policy import Policy

    return Policy.load(run)


def serve(folder: Path, words: Sequence[str]) -> int:
    """Send the texts to a served policy, as lines and over HTTP; each must be answered by JSON, an error by a sentence."""
    from starlette.testclient import TestClient

    from mopo_pl.serving import lines, web
    from mopo_pl.serving.service import Service

    policy = policy_of(words[0])
    policy.guard(on_invalid=cast("OnInvalid", words[1]), safe_action=[0.0] * len(policy.actions.names))
    policy.reset()
    service, told = Service(policy, words[0]), io.StringIO()
    texts = (folder / "lines").read_bytes().split(b"\n")
    with (folder / "lines").open("rb") as source:
        lines.run(service, source.fileno(), told)
    answers = told.getvalue().splitlines()
    assert len(answers) == len(texts) - (not texts[-1]), f"{len(texts)} lines, {len(answers)} answers"
    client = TestClient(web.application(service))
    for text in texts:
        answer = client.post("/act", content=text)
        assert answer.status_code in (200, 400, 413), answer.status_code
        answers.append(answer.text)
    for answer in answers:
        said = json.loads(answer, parse_constant=refuse_constant)
        assert said.keys() & {"action", "reset", "status"} or (said.keys() == {"error"} and said["error"]), answer
        assert len(answer) < 1_000 or "action" in said, answer[:2_000]
    return 0


def refuse_constant(name: str) -> float:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{name} is no JSON")


def inspect(folder: Path, words: Sequence[str]) -> int:
    """Open and check a log as a command does."""
    return program(folder, ["inspect", *words])


def train(folder: Path, words: Sequence[str]) -> int:
    """Train or resume as a command does, in the folder of the input."""
    from mopo_pl.cli import main as command_line

    return called_in(folder, command_line, words)


Make = Callable[[random.Random, Path, Path], list[str]]
Read = Callable[[Path, Sequence[str]], int]
KINDS: dict[str, tuple[Make, Read]] = {
    "npz": (npz_log, inspect),
    "hdf5": (hdf5_log, inspect),
    "groups": (episode_groups, inspect),
    "csv": (table_log("log.csv", "log.csv.gz"), inspect),
    "parquet": (table_log("log.parquet"), inspect),
    "arrow": (table_log("log.arrow", "log.feather"), inspect),
    "folder": (folder_log, inspect),
    "mapping": (mapping, inspect),
    "command": (command, train),
    "config": (configuration, train),
    "policy": (network("policy"), load_network),
    "ensemble": (network("dynamics"), load_network),
    "rule": (network("termination"), load_network),
    "run": (run_folder, train),
    "checkpoint": (checkpoint, train),
    "report": (of_a_run("report"), program),
    "push": (of_a_run("push"), program),
    "export": (of_a_run("export", "--to", "numpy"), program),
    "compare": (sweep("compare"), program),
    "serve": (observations, serve),
    "sweep": (sweep("sweep", "seed=0,1", "dataset=log.npz", "--dry-run", "--folder"), program),
}

if __name__ == "__main__":
    raise SystemExit(main())
