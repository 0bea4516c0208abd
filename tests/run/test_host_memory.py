"""What a run says before it trains where the host's memory or its disk has too little room."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mopo_pl.assembly import build_batches, build_dynamics, build_sac, build_samples
from mopo_pl.cli import main
from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.termination import never
from mopo_pl.errors import InputError
from mopo_pl.run.preparation import host_memory
from mopo_pl.run.preparation.host_memory import disk_bytes, free_memory, host_bytes, refuse_too_little_room
from mopo_pl.run.preparation.inputs import Inputs

SMALL = ["dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]"]
Make = Callable[..., OfflineDataset]
WIDTH = 4 * (2 * 3 + 2 + 2)  # bytes of a row: D = 3, A = 2


def test_the_stages_need_what_their_modules_hold(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    config = compose(
        ["rollout.starts=100000", "rollout.horizon=3", "sac.hidden_sizes=[16]", "sac.schedule_epochs=1", *SMALL]
    )
    policy = host_bytes(replace(config, stage="policy", dynamics_from="another run"), dataset, on_gpu=False)
    batches = build_batches(config.sac, config.rollout, dataset, seed=0)
    assert policy["the model buffer"] == batches.model_buffer.rows.nbytes == (5 * 100_000 * 3 + 1) * WIDTH
    sac = build_sac(config.sac, dataset, seed=0, compile=False)
    trained = sum(p.numel() for network in (sac.actor, sac.critic) for p in network.parameters())
    critics = sum(p.numel() for p in sac.critic.parameters())
    assert policy["the policy's networks"] == 4 * (4 * trained + critics)
    assert policy["a batch"] == 256 * (WIDTH + 4 * 16)
    assert policy["a chunk of rollouts"] == 5000 * (2 * 3 * WIDTH + 2 * 7 * 4 * 8)
    samples = build_samples(config.dynamics, dataset, seed=0)
    dynamics = build_dynamics(config.dynamics, samples, seed=0, compile=False)
    alone = host_bytes(compose(["stage=dynamics", *SMALL]), dataset, on_gpu=False)
    layers = sum(p.numel() for name, p in dynamics.ensemble.named_parameters() if "weight" in name or "bias" in name)
    assert alone["the ensemble"] == 4 * 4 * layers
    assert alone["the bootstrap samples"] == 2 * 8 * 7 * 400


def test_what_lies_on_a_gpu_is_not_the_hosts(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    assert host_bytes(compose([]), dataset, on_gpu=True) == {}
    assert list(host_bytes(compose(["data.device=cpu"]), dataset, on_gpu=True)) == ["the bootstrap samples"]
    cloning = host_bytes(compose(["algorithm=bc"]), dataset, on_gpu=False)
    assert list(cloning) == ["the policy's networks", "a batch"]


def test_a_run_of_few_refreshes_or_of_short_episodes_needs_less_of_the_disk(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    config = compose(["rollout.starts=100", "rollout.horizon=3", "trainer.max_epochs=50"])
    assert disk_bytes(config, dataset, ends=False) == 5 * 100 * 3 * WIDTH
    assert disk_bytes(config, dataset, ends=True) == 5 * 100 * WIDTH
    few = compose(["rollout.starts=100", "rollout.horizon=3", "trainer.max_epochs=3", "rollout.every_n_epochs=2"])
    assert disk_bytes(few, dataset, ends=False) == 2 * 100 * 3 * WIDTH
    assert disk_bytes(compose(["preset=offline-sac"]), dataset, ends=False) == 0


def test_the_larger_part_is_named_with_its_remedy(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inputs = Inputs(make_dataset(400), None, never, None)
    monkeypatch.setattr(host_memory, "free_memory", lambda: 1e9)
    monkeypatch.setattr(host_memory, "free_disk", lambda folder: 2e9)
    config = compose(["rollout.starts=100000", "rollout.horizon=300", "trainer.max_epochs=100"])
    with pytest.raises(InputError) as error:
        refuse_too_little_room(config, inputs, on_gpu=False, folder=tmp_path, copies=2)
    memory, disk = error.value.problems
    assert memory.startswith("the run needs 12.4 GB of memory for 2 at a time, the policy's networks (")
    assert "the model buffer (6.0 GB)" in memory
    assert memory.endswith(
        "and 1.0 GB are free: set a smaller rollout.starts, rollout.horizon or rollout.retain_epochs"
    )
    assert disk == (
        f"the checkpoints need 12.0 GB on the disk of {tmp_path} for imagined rows, and 2.0 GB are free: set a smaller "
        "rollout.starts, rollout.horizon or rollout.retain_epochs, or another run_dir"
    )
    refuse_too_little_room(compose([]), inputs, on_gpu=False, folder=tmp_path, copies=2)
    monkeypatch.setattr(host_memory, "free_memory", lambda: None)
    monkeypatch.setattr(host_memory, "free_disk", lambda folder: None)
    refuse_too_little_room(config, inputs, on_gpu=False, folder=tmp_path)


@pytest.mark.parametrize(
    "key", ["rollout.starts=2000000000", "sac.batch_size=2000000000", "sac.hidden_sizes=[99999,99999]"]
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_nothing_is_written_where_memory_is_too_small(
    tmp_path: Path,
    tiny: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    dry: list[str],
) -> None:
    monkeypatch.setattr("mopo_pl.run.preparation.inputs.try_actor", lambda sac, dataset: None)
    assert main([*tiny, key, f"run_dir={tmp_path / 'run'}", *dry]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert re.match(r"error: the run needs \d+\.\d GB of memory for the policy's networks", errors[0])
    assert f"set a smaller {key.partition('=')[0]}" in errors[0]
    assert not (tmp_path / "run").exists()


def test_a_plan_tells_memory_and_disk_in_one_line(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tiny, "rollout.starts=50000", "rollout.horizon=20", "--dry-run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory")]
    assert re.fullmatch(
        r"memory    0\.\d{3} GB for the log \(0\.000 GB\), .*the model buffer \(0\.180 GB\), .* GB are free; "
        r"on disk 0\.072 GB of imagined rows; \d+\.\d+ GB are free",
        line,
    )


# What is free


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with 8 GiB to give, and no control group."""
    (tmp_path / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:  8388608 kB\n")
    monkeypatch.setattr(host_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "GROUP_OF_SELF", tmp_path / "cgroup")
    monkeypatch.setattr(host_memory, "GROUPS", tmp_path / "groups")
    return tmp_path


def group(place: Path, **files: object) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(f"{content}\n")


def test_the_system_says_what_is_available(machine: Path) -> None:
    assert free_memory() == 8 * 2**30
    (machine / "meminfo").unlink()
    assert free_memory() is None


def test_the_narrowest_control_group_counts(machine: Path) -> None:
    """Pages of files are given up first."""
    (machine / "cgroup").write_text("0::/slice/run\n")
    statistics = f"anon {2**30}\nactive_file {2**28}\ninactive_file {2**28}"
    group(machine / "groups/slice/run", memory__max="max", memory__current=2**30, memory__stat=statistics)
    assert free_memory() == 8 * 2**30
    group(machine / "groups/slice", memory__max=2 * 2**30, memory__current=2**30, memory__stat=statistics)
    assert free_memory() == 2 * 2**30 - 2**29
    group(machine / "groups/slice/run", memory__max=2**20)
    assert free_memory() == 0


def test_a_control_group_of_version_1_counts(machine: Path) -> None:
    (machine / "cgroup").write_text("12:cpu:/x\n5:memory:/job\n")
    files = {"memory__limit_in_bytes": 2**30, "memory__usage_in_bytes": 2**29, "memory__stat": "inactive_file 0"}
    group(machine / "groups/memory/job", **files)
    assert free_memory() == 2**29


def test_a_group_that_is_seen_as_the_root_counts(machine: Path) -> None:
    """As in a container, whose group has the name `/`."""
    (machine / "cgroup").write_text("0::/\n")
    group(machine / "groups", memory__max=2**30, memory__current=0, memory__stat="")
    assert free_memory() == 2**30


def test_this_machine_has_some() -> None:
    free = free_memory()
    assert free is not None
    assert free > torch.zeros(1000).nbytes
