"""Compare the host memory and disk space that a run needs with the free space, before anything is trained."""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.termination import never
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.device_memory import INDEX
from mopo_pl.run.preparation.inputs import Inputs

COPIES = 4
"""Number of values stored for each trained weight: the weight, its gradient, and two moments of Adam."""
MEMINFO = Path("/proc/meminfo")
GROUP_OF_SELF = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def host_bytes(config: Config, dataset: OfflineDataset, *, on_gpu: bool) -> dict[str, float]:
    """Return a lower bound of the host memory that a run needs in addition to its open log [bytes], by name of the data.

    The stages follow one another, so that only the larger stage counts. The operating system provides the pages of the model buffer
    only when they are filled, so that a buffer that is too large would end the run in a later epoch.
    """
    rows, members, actions = dataset.transitions.rows, config.dynamics.members, dataset.action_dim
    value, width = rows.element_size(), rows.shape[1] * rows.element_size()
    ensemble: dict[str, float] = {}
    if config.trains_model and not on_gpu:
        sizes = [dataset.obs_dim + actions, *config.dynamics.hidden_sizes, 2 * (dataset.transitions.newest_dim + 1)]
        ensemble["the ensemble"] = float(COPIES * value * members * _weights(sizes))
    if config.trains_model and (not on_gpu or config.data.device == "cpu"):
        # The order of an epoch, and the samples in that order.
        ensemble["the bootstrap samples"] = 2.0 * INDEX * members * len(dataset)
    policy: dict[str, float] = {}
    if config.stage != "dynamics" and not on_gpu:
        hidden = config.sac.hidden_sizes
        actor = _weights([dataset.obs_dim, *hidden, 2 * actions])
        critics = (
            0 if config.algorithm == "bc" else config.sac.critics * _weights([dataset.obs_dim + actions, *hidden, 1])
        )
        policy["the policy's networks"] = float(value * (COPIES * (actor + critics) + critics))  # and target critics
        policy["a batch"] = float(config.sac.batch_size * (width + value * sum(hidden)))
        if config.uses_model:
            rollout = config.rollout
            policy["the model buffer"] = float(width * (rollout.retain_epochs * _imagined(config) + 1))
            starts = min(rollout.chunk, rollout.starts)
            policy["a chunk of rollouts"] = float(
                starts * (2 * rollout.horizon * width + 2 * members * value * max(config.dynamics.hidden_sizes))
            )
    return max(ensemble, policy, key=lambda stage: sum(stage.values()))


def disk_bytes(config: Config, dataset: OfflineDataset, *, ends: bool) -> float:
    """Return a lower bound of the size of the refreshes in the first checkpoint with a full model buffer [bytes].

    `ends`: whether imagined episodes may end early. Then only the first step of each is counted.
    """
    if config.stage == "dynamics" or not config.uses_model:
        return 0.0
    rollout, rows = config.rollout, dataset.transitions.rows
    refreshes = min(rollout.retain_epochs, -(-config.trainer.max_epochs // rollout.every_n_epochs))
    width = rows.shape[1] * rows.element_size()
    return float(refreshes * width * (rollout.starts if ends else _imagined(config)))


def refuse_too_little_room(config: Config, inputs: Inputs, *, on_gpu: bool, folder: Path, copies: int = 1) -> None:
    """Raise InputError if a run needs more host memory, or more space on the disk of its folder, than is free.

    `copies`: number of runs, or of processes of a run, that train on this machine at the same time.
    """
    needed = host_bytes(config, inputs.dataset, on_gpu=on_gpu)
    total, free = copies * sum(needed.values()), free_memory()
    problems = []
    if free is not None and total > free:
        many = f"{copies} at a time, " if copies > 1 else ""
        problems.append(
            f"the run needs {total / 1e9:.1f} GB of memory for {many}{_listed(needed)}, and {free / 1e9:.1f} GB are free: "
            f"{_smaller(needed)}"
        )
    files, room = copies * disk_bytes(config, inputs.dataset, ends=inputs.rule is not never), free_disk(folder)
    if room is not None and files > room:
        problems.append(
            f"the checkpoints need {files / 1e9:.1f} GB on the disk of {folder} for imagined rows, and {room / 1e9:.1f} GB are "
            "free: set a smaller rollout.starts, rollout.horizon or rollout.retain_epochs, or another run_dir"
        )
    if problems:
        raise InputError(problems)


def room_line(config: Config, inputs: Inputs, *, on_gpu: bool, folder: Path) -> str:
    """Return the line of `--dry-run` about needed and free memory and disk space, with all imagined rows counted."""
    dataset = inputs.dataset
    needed, log = host_bytes(config, dataset, on_gpu=on_gpu), dataset.transitions.rows.nbytes
    free, room = free_memory(), free_disk(folder)
    files = disk_bytes(config, dataset, ends=False)
    return (
        f"{_shown(sum(needed.values()) + log)} for {_listed({'the log': float(log), **needed})}; {_shown(free)} are free; "
        f"on disk {_shown(files)} of imagined rows; {_shown(room)} are free"
    )


def free_memory() -> float | None:
    """Return the memory available without swapping, within the limits of control groups [bytes]; None if unknown."""
    try:
        words = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        available = float(words["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return min([available, *_left_by_groups()])


def _left_by_groups() -> list[float]:
    """Return the memory that each limit leaves [bytes], for this process's control group and those above it.

    It is the limit minus the memory in use. Cached pages of files are not counted as used, because the system frees them first. Reads
    version 2 of control groups, and the memory controller of version 1.
    """
    try:
        lines = [line.split(":", 2) for line in GROUP_OF_SELF.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, controllers, name in (line for line in lines if len(line) == 3):
        second = controllers == ""
        if not second and "memory" not in controllers.split(","):
            continue
        root = GROUPS if second else GROUPS / "memory"
        group = root / name.lstrip("/")
        for place in (group, *group.parents):
            if place == root or root in place.parents:
                left += _left_in(place, second=second)
    return left


def _left_in(place: Path, *, second: bool) -> list[float]:
    limit, used = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        bound = float((place / limit).read_text())  # "max", no limit, raises ValueError
        lines = map(str.split, (place / "memory.stat").read_text().splitlines())
        statistics = {words[0]: words[1] for words in lines if len(words) == 2}
        files = sum(float(statistics.get(name, 0)) for name in ("active_file", "inactive_file"))
        return [max(0.0, bound - max(0.0, float((place / used).read_text()) - files))]
    except (OSError, ValueError):
        return []


def free_disk(folder: Path) -> float | None:
    """Return the free space on the disk of a folder, which need not exist yet [bytes]; None if it is unknown."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return float(shutil.disk_usage(place).free)
    except OSError:
        return None


def _imagined(config: Config) -> int:
    """Return the largest number of rows of a refresh."""
    return config.rollout.starts * config.rollout.horizon


def _weights(sizes: Sequence[int]) -> int:
    """Return the number of weights and biases of layers with these widths."""
    return sum((i + 1) * o for i, o in itertools.pairwise(sizes))


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({_shown(size)})" for name, size in parts.items())


def _shown(size: float | None) -> str:
    """Format a size in GB, with three decimals below 1 GB."""
    if size is None:
        return "an unknown number of GB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e9:.3f} GB"


_WAYS = {
    "the ensemble": "dynamics.members or dynamics.hidden_sizes",
    "the bootstrap samples": "dynamics.members or data.max_rows",
    "the policy's networks": "sac.hidden_sizes",
    "a batch": "sac.batch_size",
    "the model buffer": "rollout.starts, rollout.horizon or rollout.retain_epochs",
    "a chunk of rollouts": "rollout.chunk",
}


def _smaller(needed: Mapping[str, float]) -> str:
    """Return a hint on which setting reduces the largest part."""
    return f"set a smaller {_WAYS[max(needed, key=lambda name: needed[name])]}"
