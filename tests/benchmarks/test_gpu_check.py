"""`benchmarks/gpu.py`: what its parts compare, on the CPU; and with a GPU, which the mark `gpu` needs, there."""

import argparse
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import gpu
import pytest
import torch
from gpu_parts import answers, host_waits, machine, memory, ranks, run, speed, waits
from gpu_parts.findings import Finding, Task
from gpu_parts.graphs import Captured, graphs_are_replayed, in_form, nothing_falls_back
from gpu_parts.host_waits import counted
from gpu_parts.kill import TRACE, WHERE, Kill
from gpu_parts.stages import SMALL, fill, fused_dynamics, sac_update, stages_on, transitions
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters

from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.dynamics.rollouts import one_step
from mopo_pl.nn import fused_update
from mopo_pl.nn.compilation import CompiledOrEager
from mopo_pl.storage.checkpoints import CheckpointFiles, ChecksummedCheckpointIO

CPU = torch.device("cpu")


def task(folder: Path, fault: str | None = None, device: torch.device = CPU) -> Task:
    return Task(device=device, folder=folder, seconds=60.0, fault=fault)


def failed(found: Iterator[Finding]) -> list[str]:
    return [finding.what for finding in found if finding.passed is False]


def test_the_machine_is_described_and_an_old_torch_found(tmp_path: Path) -> None:
    assert failed(machine.findings(task(tmp_path))) == []
    assert failed(machine.findings(task(tmp_path, "old-torch"))) == ["torch"]


def test_a_wrong_weight_changes_the_answers() -> None:
    exact, other = (stages_on(CPU, SMALL, rows=300, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        other.sac.actor.layers[0].weight[0, 0] += 1e-6  # type: ignore[index,operator]
    made, reference = answers.everything(other), answers.everything(exact)
    apart = {name: answers.furthest(value, reference[name]) for name, value in made.items()}
    wrong = {name for name, distance in apart.items() if distance > answers.EXACT}
    assert wrong == {"a step of the rollouts", "gradients of SAC", "three updates of SAC", "cloning's mean action"}
    again = answers.everything(stages_on(CPU, SMALL, rows=300, dtype=torch.float64))
    assert max(answers.furthest(value, reference[name]) for name, value in again.items()) == 0


def test_updates_in_one_function_are_those_of_the_optimisers() -> None:
    stages, others = (stages_on(CPU, SMALL, rows=300, dtype=torch.float64) for _ in range(2))
    assert answers.furthest(answers.sac_fused(stages, False), answers.sac_steps(others)) < 1e-12


def test_distances_see_nan_and_missing_values() -> None:
    one = {"x": torch.tensor([1.0, 100.0])}
    assert answers.furthest({"x": torch.tensor([1.0, 101.0])}, one) == pytest.approx(0.01)
    assert answers.furthest({"x": torch.tensor([1.0, torch.nan])}, one) == torch.inf
    assert answers.furthest({}, one) == torch.inf
    assert answers.relative({"x": torch.tensor([1.0, 101.0])}, one) == pytest.approx(1 / 10001**0.5)


def test_a_wrong_place_of_the_model_buffer_is_found(tmp_path: Path) -> None:
    assert failed(answers.model_buffer(task(tmp_path))) == []
    assert failed(answers.model_buffer(task(tmp_path, "wrong-place"))) == [
        "the model buffer holds the same rows at the same places"
    ]


def test_lower_precisions_lie_within_their_tolerances_and_not_at_zero() -> None:
    reference = answers.everything(stages_on(CPU, SMALL, dtype=torch.float64))
    found = list(answers.lower_precisions(SMALL, CPU, reference))
    assert [finding.passed for finding in found] == [True] * 4 + [None] + [True] * 4
    assert all(float(finding.value) > 1e-9 for finding in found if finding.passed)


def test_an_update_that_looks_at_a_number_is_found() -> None:
    stages = stages_on(CPU, (*SMALL, "dynamics.updates_per_step=1"))
    fill(stages.batches, 100)
    seen = {name: waits.watched(name, work, CPU).passed for name, work in waits.loops(stages).items()}
    assert len(seen) == 9
    assert all(seen.values())
    stages.sac.__class__ = waits.Impatient
    found = waits.watched("", waits.loops(stages)["an update of SAC by torch's optimisers"], CPU)
    assert (found.passed, found.value) == (False, "2 x _local_scalar_dense")


def test_the_captured_form_makes_the_same_updates() -> None:
    """Without a GPU nothing is captured; inputs, steps of Adam and reports go the same way."""
    made = []
    for form in ("eager", "one graph"):
        stages = stages_on(CPU, SMALL, rows=300, dtype=torch.float64)
        fused = stages.sac.fused_update(stages.sac_optimizers)
        (rows,), noise = answers.batches_of(stages)
        batches = transitions(answers.UPDATES, rows.shape[1], like=rows)
        rates = stages.sac.average_rates(answers.UPDATES)
        fused._compiled = fused.one
        run = fused.run if form == "eager" else Captured(fused, batches, (noise * 0, rates * 0)).run
        made.append({"reports": torch.stack([run(batches, noise, rates).clone() for _ in range(2)])})
        made[-1] |= answers.weights_of(stages.sac)
    assert answers.furthest(*made) == 0


def test_a_form_that_cannot_be_compiled_does_not_pass_for_one() -> None:
    def refused(x: int) -> int:
        raise TorchDynamoException("no")

    with pytest.raises(RuntimeError, match="the step is not compiled: no"), nothing_falls_back():
        CompiledOrEager(lambda x: x, refused, "the step")(1)
    assert CompiledOrEager(lambda x: x, refused, "the step")(1) == 1


def test_time_is_asked_for_at_the_pace_of_the_machine(tmp_path: Path) -> None:
    asked = Task(device=CPU, folder=tmp_path, seconds=100.0, pace=4.0, begin=time.monotonic() - 45)
    assert asked.has(13) is True
    assert asked.has(14) is False
    assert asked.can_compile() is True  # 12 s by 4
    assert asked.can_compile(then=2.0) is False


@pytest.mark.parametrize(("ended", "fits"), [(60.0, True), (80.0, False)])
def test_a_compilation_is_taken_to_need_a_little_more_than_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: float, fits: bool
) -> None:
    now = [40.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked = Task(device=torch.device("cuda"), folder=tmp_path, seconds=100.0, begin=0.0)
    assert asked.can_compile() is True  # 60 s are left, and 45 needed
    with asked.compiling():
        now[0] = ended
    assert asked.can_compile() is fits


def test_cuda_graphs_that_torch_leaves_out_are_no_measurement() -> None:
    with graphs_are_replayed("reduce-overhead"):
        pass
    with graphs_are_replayed("compiled"):
        counters["inductor"]["cudagraph_skips"] += 1
    with pytest.raises(RuntimeError, match="2 CUDA graphs were left out"), graphs_are_replayed("reduce-overhead"):
        counters["inductor"]["cudagraph_skips"] += 2


def test_no_loop_mixes_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """On `meta`, which stands for a GPU: what was made on the CPU is found where it meets a tensor of the device."""
    meta, asked = torch.device("meta"), []

    def stream(seed: int, purpose: str, rank: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
        asked.append((purpose, torch.device(device)))
        return torch.Generator()  # `meta` has none

    for user in ("mopo_pl.data.batches.policy_batches", "mopo_pl.callbacks.rollout_refresh", "gpu_parts.stages"):
        monkeypatch.setattr(f"{user}.generator_for", stream)
    # `meta` knows no autocast, and what was stored cannot be read there at the end of a refresh.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    monkeypatch.setattr(torch, "autocast", lambda *device, **options: nullcontext())
    monkeypatch.setattr("mopo_pl.data.batches.model_buffer.int", lambda filled: 40, raising=False)
    stages = stages_on(meta, (*SMALL, "dynamics.updates_per_step=1"))
    fill(stages.batches, 40)
    assert [name for name, device in asked if device == meta] == ["rollouts", "batches", "updates"]
    loops = waits.loops(stages)
    del loops["the starts of rollouts"]  # they go to the device of the stream
    del loops["a step of the ensemble by torch's optimiser"]  # torch's fused Adam refuses `meta`
    for name, work in loops.items():
        work()
        with counted() as found:
            work()
        assert found == {}, name


@pytest.mark.parametrize(
    ("seconds", "passed"),
    [
        ({"plain": 1.0, "eager": 1.9, "compiled": 0.9}, True),
        ({"plain": 1.0, "eager": 1.9, "compiled": 1.1}, False),
        ({"plain": 1.0, "eager": 1.9}, True),
        ({"plain": 1.0, "eager": 2.6}, False),
    ],
)
def test_a_compiled_form_must_be_faster_than_the_plain_one(seconds: dict[str, float], passed: bool) -> None:
    assert speed.fastest("", seconds).passed is passed


def test_a_killed_run_may_be_resumed_with_its_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(arguments: list[str], *, kill: str | None = None, **_: object) -> SimpleNamespace:
        config = compose(arguments)
        folder = Path(config.resume or str(config.run_dir))
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(config))
        return SimpleNamespace(wait=lambda seconds: -9 if kill else 0)

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "differing", lambda *folders: [])
    monkeypatch.setattr(run, "ACT", "")
    assert failed(run.findings(task(tmp_path))) == []


def test_a_killed_process_leaves_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, sac = [], stages_on(CPU, SMALL, rows=300).sac
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.append((pid, number)))
    monkeypatch.setenv(WHERE, "1:30")
    for rank, updates in ((0, 40), (1, 29), (1, 30)):
        sac._updates = updates
        assert not (tmp_path / TRACE).exists()
        trainer = SimpleNamespace(global_rank=rank, default_root_dir=str(tmp_path))
        Kill().on_train_batch_end(trainer, sac, None, None, 0)  # type: ignore[arg-type]
    assert ended == [(os.getpid(), signal.SIGKILL)]
    assert (tmp_path / TRACE).exists()


def test_a_changed_checkpoint_is_one_that_a_resume_would_take(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path / "checkpoints", "policy")
    path = files.path(1, 4)
    state = {"state_dict": {"actor.layers.0.bias": torch.zeros(3)}}
    ChecksummedCheckpointIO().save_checkpoint(state, path)
    run.change(tmp_path)
    assert files.newest_valid() == path
    assert torch.load(path)["state_dict"]["actor.layers.0.bias"].tolist() == pytest.approx([1e-3, 0, 0])


def test_tensors_of_two_devices_are_counted() -> None:
    there, here = torch.zeros(2, device="meta"), torch.zeros(2)
    with counted() as found:
        here.to("meta")
        here.to("meta", non_blocking=True)
        _ = torch.zeros(2, 2, device="meta") @ torch.zeros(2, 2)
        _ = there + torch.zeros(())
        _ = torch.where(there > 0, there, torch.zeros(()))  # on a GPU it copies the number, and waits
        _ = torch.where(there > 0, there, 0.0)
    assert found == {
        "copy between devices": 1,
        "mm of tensors on two devices": 1,
        "where of tensors on two devices": 1,
    }


def test_the_loops_that_a_run_compiles_are_those_that_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_update, "compile_without_guards", lambda method, device, name: method)
    monkeypatch.setattr(waits, "compiled_step", lambda rows, device: one_step)
    stages = stages_on(CPU, (*SMALL, "dynamics.updates_per_step=1"), rows=300)
    fill(stages.batches, 100)
    found = waits.compiled_loops(stages)
    assert tuple(found) == waits.ONE_FUNCTION
    assert [waits.watched(name, work, CPU).passed for name, work in found.items()] == [True] * 3
    assert [finding.value for finding in waits.compiled(task(Path()), stages)] == ["not on a CPU"]


def test_what_cuda_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronises() -> None:
        raise RuntimeError("called a synchronizing CUDA operation\nwhere it was")

    monkeypatch.setattr(waits, "refused_by_cuda", nullcontext)
    assert waits.seen_by_cuda(synchronises) == ["CUDA: called a synchronizing CUDA operation"]
    assert waits.seen_by_cuda(lambda: None) == []


def test_what_cuda_refuses_ends_with_the_step_that_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    modes, watch, module = [], host_waits.InTrainingSteps(), SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(host_waits, "cuda_refuses", modes.append)
    watch.on_train_batch_start(None, module, None, 0)  # type: ignore[arg-type]
    assert modes == []
    watch.on_train_batch_start(None, module, None, 1)  # type: ignore[arg-type]
    assert modes == ["error"]
    module.device = CPU  # where a Trainer leaves it
    watch.on_exception(None, module, RuntimeError())  # type: ignore[arg-type]
    assert modes == ["error", "default"]
    watch.stop()
    assert modes == ["error", "default"]
    torch.zeros(()).item()
    assert watch.mode.found == {}


def test_launches_that_the_profiler_does_not_see_are_not_none() -> None:
    names = ("cudaLaunchKernel", "cudaLaunchKernelExC_v11060", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaMemcpyAsync")
    events = [SimpleNamespace(key=name, count=2) for name in names]
    assert waits.launched("", events, 2).value == 4
    unseen = waits.launched("", events[-1:], 2)
    assert (unseen.value, unseen.passed) == ("left out: the profiler saw none (is CUPTI allowed?)", None)


def test_a_computation_that_cannot_be_compiled_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("no C compiler\nwas found")

    def none(*_: object) -> Iterator[Finding]:
        yield from ()

    for part in ("model_buffer", "lower_precisions"):
        monkeypatch.setattr(answers, part, none)
    monkeypatch.setattr(answers, "everything", lambda stages: {})
    monkeypatch.setattr(answers, "stages_on", lambda *_, **__: None)
    monkeypatch.setattr(answers, "sac_fused", refused)
    for made in ("dynamics_fused", "rollout"):
        monkeypatch.setattr(answers, made, lambda *_: {"x": torch.zeros(1)})
    found = list(answers.findings(task(tmp_path)))
    assert [finding.passed for finding in found] == [False, True, True]
    assert found[0].value == "RuntimeError: no C compiler"
    monkeypatch.setattr(waits, "compiled_loops", lambda stages: {"first": refused, "second": lambda: None})
    monkeypatch.setattr(waits, "synchronised", lambda device: None)
    monkeypatch.setattr(waits, "seen_by_cuda", lambda work: [])
    monkeypatch.setattr(waits, "launches", none)
    card = task(tmp_path, device=torch.device("cuda"))
    found = list(waits.compiled(card, None))  # type: ignore[arg-type]
    assert [(finding.what, finding.passed) for finding in found] == [
        ("first, compiled", False),
        ("second, compiled, waits for nothing", True),
    ]


def test_seeds_of_which_one_ends_are_said_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    class Process:
        def __init__(self, **_: object) -> None:
            self.start = self.join = lambda: None
            self.kill = lambda: ended.append(self)

    monkeypatch.setattr(speed, "get_context", lambda _: SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Process))
    (found,) = speed.seeds(task(tmp_path))
    assert (found.passed, found.value) == (False, "EOFError: ")
    assert len(ended) == 2


def test_one_of_several_seeds_compiles_in_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.inductor, "compile_threads", 8)
    ours, theirs = multiprocessing.Pipe()
    ours.send(0.0)
    speed.seed_process(0, "cpu", "eager", theirs)
    assert ours.recv() == "ready"
    assert speed.inductor.compile_threads == 1


def test_what_the_driver_says_of_several_cards_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert machine.of_the_driver("compute_mode") == "unknown (FileNotFoundError)"
    assert "no C compiler, no g++" in machine.compilers()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho Default\necho Exclusive_Process\necho Default\n")
    program.chmod(0o755)
    assert machine.of_the_driver("compute_mode") == "Default, Exclusive_Process"


def test_memory_is_counted_from_a_device_that_holds_no_other_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(Exception):
        pass

    def modules() -> int:
        gc.collect()
        return sum(type(each) is OfflineDataModule for each in gc.get_objects())

    def taken(_: Task) -> float:
        assert modules() == before
        raise Counted

    before = modules()
    monkeypatch.setattr(memory, "taken", taken)
    with pytest.raises(Counted):
        list(memory.findings(task(tmp_path)))


def test_the_memory_of_buffer_and_log_is_foretold(tmp_path: Path) -> None:
    stages = stages_on(CPU, SMALL, rows=300)
    log = memory.longer(stages.dataset, 1000)
    assert torch.equal(log.transitions.rows[300:600], stages.dataset.transitions.rows)
    assert memory.the_same(task(tmp_path), log.transitions.rows)
    on_host = memory.batches_of(stages, log, on_host=True)
    assert on_host.on_host
    assert len(on_host.log_rows) == 1000
    found = list(memory.messages(stages.config, log))
    assert found[0].passed
    assert "data.device=cpu" in str(found[0].value)


class Rank:
    """A process that ends by itself after so many polls, or not at all."""

    def __init__(self, code: int, polls: float) -> None:
        self.code, self.polls, self.killed = code, polls, False

    @property
    def exitcode(self) -> int | None:
        self.polls -= 1
        return self.code if self.polls < 0 else None

    def kill(self) -> None:
        self.killed = True


def test_ranks_that_do_not_end_after_another_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 1))
    both, one = [Rank(0, 10), Rank(1, 30)], [Rank(-9, 5), Rank(0, float("inf"))]
    asked = Task(device=CPU, folder=tmp_path, seconds=1000.0, begin=0.0)
    ended = ranks.together(asked, {"both": both, "one": one})  # type: ignore[dict-item]
    assert ended == {"both": ([0, 1], 20.0), "one": ([-9, None], 2 * ranks.SOON + 1)}
    assert [each.killed for each in (*both, *one)] == [False, False, False, True]


WORKER = """
import json, sys, time
name, out = sys.argv[1:]
with open(out + "/" + name + ".jsonl", "w") as file:
    for finding in json.loads(sys.stdin.readline()):
        file.write(json.dumps(finding) + chr(10))
    file.flush()
    if name == "wrong":
        raise RuntimeError("no card")
    while name == "endless":
        time.sleep(1)
"""
FINDINGS = {
    "well": Finding.at_most("a", 1.0, 2.0, "s"),
    "wrong": Finding.at_most("b", 3.0, 2.0),
    "endless": Finding(what="c", value="begun"),
}


def started(name: str, options: argparse.Namespace, seconds: float) -> subprocess.Popen[bytes]:
    """A part that makes one finding, and then ends, fails, or does not end."""
    command = [sys.executable, "-c", WORKER, name, str(options.out)]
    with (options.out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(f"[{FINDINGS[name].line()}]".encode() + b"\n")
    process.stdin.close()
    return process


def test_a_part_that_fails_or_does_not_end_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "started", started)
    monkeypatch.setattr(gpu, "SHARES", {"endless": 1, "wrong": 1, "well": 1})
    monkeypatch.setattr(gpu, "TITLES", {"well": "Well", "wrong": "Wrong", "endless": "Endless"})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", str(tmp_path), "--minutes", "0.1"])
    assert gpu.main() == 1
    report = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["state"] for name, part in report.items()} == {
        "endless": "out of time",
        "wrong": "failed",
        "well": "passed",
    }
    assert report["wrong"]["findings"][0]["passed"] is False
    assert "no card" in report["wrong"]["last lines"][-1]
    assert report["well"]["limit [s]"] >= 2  # what the others left
    page = (tmp_path / "gpu.md").read_text()
    assert "| a | 1 s | at most 2 | passed |" in page
    assert "| b | 3 | at most 2 | **failed** |" in page
    assert "| c | begun |  |  |" in page
    assert not list(tmp_path.glob("*.part"))


INTERRUPTED = f"""
import json, signal, subprocess, sys, time
import gpu
WORKER = {WORKER!r}
FINDINGS = {{name: json.dumps({{"what": name, "value": 1, "unit": "", "limit": "", "passed": None}}) for name in ("well", "endless")}}

def started(name, options, seconds):
    with (options.out / f"{{name}}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, name, str(options.out)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )
    print(process.pid, flush=True)
    process.stdin.write(f"[{{FINDINGS[name]}}]".encode() + b"\\n")
    process.stdin.close()
    return process

gpu.started, gpu.SHARES = started, {{"well": 1, "endless": 1, "never": 1}}
gpu.TITLES = {{name: name for name in gpu.SHARES}}
sys.exit(gpu.main())
"""


@pytest.mark.parametrize(
    ("number", "state", "code"), [(signal.SIGTERM, "interrupted", 143), (signal.SIGKILL, "running", -9)]
)
def test_what_was_found_is_on_disk_when_the_command_is_ended(
    tmp_path: Path, number: signal.Signals, state: str, code: int
) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "--device", "cpu", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(gpu.__file__).parent)}
    page = tmp_path / "gpu.md"
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        pids: list[str] = []
        try:
            while not (page.exists() and "| endless | 1 |" in page.read_text()):  # the page is written after the JSON
                time.sleep(0.05)
                pids = pids or [process.stdout.readline()]
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(20) == code
        finally:
            process.kill()
            pids += [line for line in process.stdout if line.strip().isdigit()]
            alive = [pid for pid in map(int, pids) if Path(f"/proc/{pid}").exists()]
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
    report = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["state"] for name, part in report.items()} == {"well": "passed", "endless": state}
    assert [part["findings"][0]["what"] for part in report.values()] == ["well", "endless"]
    assert f"## endless: {state}" in page.read_text()
    assert "| endless | 1 |  |  |" in page.read_text()
    assert len(alive) == (number == signal.SIGKILL)  # which nothing can end the part at


def test_each_fault_belongs_to_a_part() -> None:
    assert set(gpu.FAULTS.values()) == set(gpu.SHARES) == set(gpu.TITLES)


@pytest.mark.gpu
def test_the_answers_on_the_gpu(tmp_path: Path) -> None:
    card = torch.device("cuda")
    exact = answers.everything(stages_on(CPU, SMALL, rows=300, dtype=torch.float64))
    made = answers.everything(stages_on(card, SMALL, rows=300, dtype=torch.float64))
    assert max(answers.furthest(value, exact[name]) for name, value in made.items()) < answers.EXACT
    assert failed(answers.model_buffer(task(tmp_path, device=card))) == []


@pytest.mark.gpu
def test_nothing_waits_on_the_gpu(tmp_path: Path) -> None:
    stages = stages_on(torch.device("cuda"), (*SMALL, "dynamics.updates_per_step=1"))
    fill(stages.batches, 500)
    assert failed(waits.watched(name, work, stages.device) for name, work in waits.loops(stages).items()) == []


@pytest.mark.gpu
@pytest.mark.parametrize("form", ["compiled", "reduce-overhead", "one graph"])
def test_each_form_makes_the_same_steps_on_the_gpu(form: str) -> None:
    made = []
    for each in ("eager", form):
        stages = stages_on(torch.device("cuda"), SMALL, rows=300)
        batches = transitions(2, 7, 64, like=stages.samples.log_rows.rows)
        run = in_form(fused_dynamics(stages.dynamics), each, batches)
        with graphs_are_replayed(each):
            losses = torch.stack([run(batches) for _ in range(3)])  # warmed up, recorded, replayed
        if form == "one graph":  # which has made updates while it was captured
            assert losses.isfinite().all()
            continue
        made.append({"losses": losses} | answers.weights_of(stages.dynamics.ensemble))
    assert not made or answers.furthest(*made) < 1e-4


@pytest.mark.gpu
def test_the_log_on_the_host_serves_the_gpu(tmp_path: Path) -> None:
    card = torch.device("cuda")
    assert memory.the_same(task(tmp_path, device=card), torch.randn(1000, 42))
    stages = stages_on(card, SMALL, rows=300)
    fill(stages.batches, 100)
    batches = stages.batches.sample(2)
    assert sac_update(stages, batches, stages.sac.draw_noise(batches)).isfinite().all()
