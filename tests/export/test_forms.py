"""Every form computes what the policy computes, where nothing but its own runtime is installed."""

import copy
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mopo_pl.errors import InputError
from mopo_pl.export import exporting, run_policy
from mopo_pl.export.comparison import Vectors, play
from mopo_pl.export.exporting import export_policy
from mopo_pl.export.forms import FORMS, OPSET
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

ROOT = Path(__file__).parents[2]


def in_numbers(policy: Policy, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Action, μ and log σ of a state [W], in float64 from the weights, layer by layer."""
    actor = policy.actor
    hidden = (state - actor.normaliser.mean.double().numpy()) / actor.normaliser.divisor.double().numpy()
    for number, layer in enumerate(actor.layers):
        assert isinstance(layer, nn.Linear)
        hidden = layer.weight.double().numpy() @ hidden + layer.bias.double().numpy()
        if number < len(actor.layers) - 1:
            hidden = hidden.clip(0)
    mean, log_std = hidden[:2], hidden[2:]
    middle, half = np.array([1.0, 5.0]), np.array([2.0, 5.0])
    return middle + half * np.tanh(mean), mean, log_std.clip(-4.0, 1.5)


def test_actions_and_distribution_are_those_of_the_network_by_hand(plain: Any, states: np.ndarray) -> None:
    expected = [
        np.stack(column) for column in zip(*(in_numbers(plain.policy, s) for s in states.astype(float)), strict=True)
    ]
    runner = run_policy.Policy(plain.folder / "policy.npz")
    program: Any = torch.export.load(plain.folder / "policy.pt2").module()
    session = onnxruntime.InferenceSession(str(plain.folder / "policy.onnx"))
    found = {
        "numpy": [runner(states), *runner.distribution(states)],
        "one by one": [np.stack([runner(state) for state in states]), *runner.distribution(states)],
        "torch": [program(torch.from_numpy(states))[i].numpy() for i in (0, 2, 3)],
        "onnx": session.run(["action", "mean", "log_std"], {"observation": states}),
    }
    for made in found.values():
        for column, wanted in zip(made, expected, strict=True):
            np.testing.assert_allclose(column, wanted, atol=2e-5)
    assert np.ptp(expected[0], 0).min() > 1  # the states do lead to different actions


def test_a_history_is_the_same_in_every_form(delayed: Any, states: np.ndarray) -> None:
    """By hand: (o_t, o_{t-1}, o_{t-2}, a_{t-1}, a_{t-2}) of one episode, from its first step on."""
    policy, seen, done, by_hand = delayed.policy, [], [], []
    for observation in states[:7].astype(float):
        seen = [observation, *seen] if seen else [observation] * 3
        state = np.concatenate([*seen[:3], *(done or [np.zeros(2)] * 2)][:5])
        action, mean, _ = in_numbers(policy, state)
        done = [np.tanh(mean), *(done or [np.zeros(2)])][:2]
        by_hand.append(action)
    runner = run_policy.Policy(delayed.folder / "policy.npz")
    np.testing.assert_allclose(np.stack([runner(state) for state in states[:7]]), by_hand, atol=2e-5)
    program: Any = torch.export.load(delayed.folder / "policy.pt2").module()
    session = onnxruntime.InferenceSession(str(delayed.folder / "policy.onnx"))
    memory = np.zeros((1, 1 + 13 + 2), np.float32)
    torch_memory: Tensor = torch.zeros(1, 16)
    for state, expected in zip(states[:7], by_hand, strict=True):
        action, memory = session.run(["action", "memory_out"], {"observation": state[None], "memory": memory})
        np.testing.assert_allclose(np.asarray(action)[0], expected, atol=2e-5)
        made, _, torch_memory = program(torch.from_numpy(state[None]), torch_memory)
        np.testing.assert_allclose(made[0], expected, atol=2e-5)


def test_an_export_says_how_far_each_form_is_from_the_policy(exported: Any) -> None:
    report = json.loads((exported.folder / "export.json").read_text())
    assert report == json.loads(json.dumps(exported.report))
    assert report["forms"].keys() == FORMS.keys()
    assert all(0 <= form["largest_difference"] < 1e-5 for form in report["forms"].values())
    steps = 1 if exported.policy.history == 1 else 5
    assert report["compared_on"] == {"logged": 300, "random": 512 // steps * steps}
    assert report["opset"] == OPSET
    kept = np.load(exported.folder / "vectors.npz")
    assert kept["observations"].shape == (steps, 128 // steps if steps == 1 else 24, 3)
    np.testing.assert_allclose(play(exported.policy, kept["observations"]), kept["actions"], atol=1e-6)


def test_every_form_holds_names_units_ranges_scaling_and_origin(plain: Any) -> None:
    model = onnx.load(plain.folder / "policy.onnx")
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    extra = {"contract.json": ""}
    torch.export.load(plain.folder / "policy.pt2", extra_files=extra)
    runner = run_policy.Policy(plain.folder / "policy.npz")
    told = {entry.key: entry.value for entry in model.metadata_props}
    observations = json.loads(told["observations"])
    assert observations["names"] == ["temp", "pressure", "flow"]
    assert observations["units"] == ["°C", "bar", ""]
    assert (observations["low"], observations["high"]) == ([-1.0, -2.0, -3.0], [1.0, 2.0, 3.0])
    assert observations["std"] == [1.0, 2.0, 3.0]
    actions = json.loads(told["actions"])
    assert (actions["bound_low"], actions["bound_high"], actions["low"]) == ([-1.0, 0.0], [3.0, 10.0], [-1.0, 0.5])
    assert json.loads(told["dataset"]) == {"name": "plant.csv", "hash": "ab" * 32, "rows": 1000}
    assert (told["licence"], told["run"], told["trained_by"]) == ("MIT", "20261128_s0", "mopo_pl 0.1.0")
    assert (told["history"], told["opset"]) == ("1", "18")
    for other in (json.loads(extra["contract.json"]), runner.metadata):
        assert other["observations"] == observations
        assert other["actions"] == actions
        assert other["dataset"]["hash"] == "ab" * 32


def test_forms_flag_what_lies_beyond_the_log_and_take_any_batch(plain: Any) -> None:
    session = onnxruntime.InferenceSession(str(plain.folder / "policy.onnx"))
    program: Any = torch.export.load(plain.folder / "policy.pt2").module()
    rows = np.array([[0, 0, 0], [1.5, 0, -4], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    expected = [[False] * 3, [True, False, True], [False] * 3, [True, False, False]]
    for given in (rows, rows[:1], np.zeros((0, 3), np.float32)):
        action, outside = session.run(["action", "outside"], {"observation": given})
        made = program(torch.from_numpy(given))
        for actions, flags in ((action, outside), (made[0].numpy(), made[1].numpy())):
            assert np.asarray(flags).tolist() == expected[: len(given)]
            assert np.isnan(np.asarray(actions)).all(1).tolist() == [False, False, True, True][: len(given)]


def test_a_step_that_is_not_finite_leaves_the_memory_of_a_program(delayed: Any, states: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(str(delayed.folder / "policy.onnx"))
    memory = np.zeros((2, 16), np.float32)
    memory = session.run(["memory_out"], {"observation": states[:2], "memory": memory})[0]
    for wrong in ([np.nan, 0, 0], [3e38, 3e38, 3e38]):  # the second makes the network overflow
        broken = states[2:4].copy()
        broken[1] = wrong
        action, after = session.run(["action", "memory_out"], {"observation": broken, "memory": memory})
        assert np.array_equal(np.asarray(after)[1], np.asarray(memory)[1])
        assert not np.array_equal(np.asarray(after)[0], np.asarray(memory)[0])
        assert np.isnan(np.asarray(action)).all(1).tolist() == [False, True]


# Alone


def alone(folder: Path, packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these packages alone: no site-packages, no checkout."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    for name in packages:
        home = Path(str(importlib.import_module(name).__file__)).parent
        for source in (home, home.with_name(f"{name}.libs")):
            if source.exists() and not (site / source.name).exists():
                (site / source.name).symlink_to(source)
    environment = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-S", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def copied(exported: Any, folder: Path) -> Path:
    for name in ("run_policy.py", "policy.npz", "vectors.npz", "policy.onnx"):
        shutil.copy(exported.folder / name, folder / name)
    return folder


def test_the_runner_needs_numpy_alone(exported: Any, tmp_path: Path) -> None:
    copied(exported, tmp_path)
    done = alone(tmp_path, ["numpy"], "run_policy.py", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "test vectors: largest difference" in done.stdout
    program = "import importlib.util as u; print([n for n in ('torch', 'mopo_pl', 'safetensors') if u.find_spec(n)])"
    assert alone(tmp_path, ["numpy"], "-c", program).stdout == "[]\n"
    told = alone(tmp_path, ["numpy"], "run_policy.py").stdout
    assert "  temp                 °C       -1 to 1\n" in told
    assert "  pump                 1/s      0.5 to 9.5  0 to 10\n" in told


def test_the_onnx_file_needs_onnxruntime_alone(plain: Any, tmp_path: Path) -> None:
    copied(plain, tmp_path)
    program = """
import sys
for name in ("torch", "onnx", "onnxscript", "mopo_pl"):
    sys.modules[name] = None
import json, numpy, onnxruntime
session = onnxruntime.InferenceSession("policy.onnx")
vectors = numpy.load("vectors.npz")
action = session.run(["action"], {"observation": vectors["observations"][0]})[0]
told = session.get_modelmeta().custom_metadata_map
print(json.loads(told["observations"])["names"], abs(action - vectors["actions"][0]).max() < 1e-4)
"""
    done = alone(tmp_path, ["numpy", "onnxruntime"], "-c", program)
    assert done.stdout == "['temp', 'pressure', 'flow'] True\n", done.stderr


@pytest.mark.slow
def test_the_runner_in_a_real_environment_with_numpy_alone(exported: Any, tmp_path: Path) -> None:
    copied(exported, tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", "numpy"]
    subprocess.run(install, check=True, timeout=300)
    done = subprocess.run(
        [python, "run_policy.py", "--check"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_runner_is_written_in_python_3_8() -> None:
    """Its syntax and the standard library's names; vermin does not know NumPy's."""
    program = "import sys, vermin; sys.exit(vermin.main())"
    command = [sys.executable, "-c", program, "--no-tips", "--violations", "-t=3.8-", run_policy.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


# What is damaged, and what cannot be exported


def tampered(folder: Path, file: str, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(folder / file) as opened:
        arrays = {name: opened[name].copy() for name in opened.files}
    change(arrays)
    np.savez(folder / file, allow_pickle=False, **arrays)


def nudge(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name].flat[0] += 1

    return change


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        ("policy.npz", "weight_2", ["policy.npz is not the file", "actions differ from those"]),
        ("policy.npz", "action_high", ["policy.npz is not the file", "actions differ from those"]),
        ("vectors.npz", "observations", ["vectors.npz is not the file", "actions differ from those"]),
    ],
)
def test_the_check_fails_on_one_changed_number(
    plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, name: str, said: list[str]
) -> None:
    copied(plain, tmp_path)
    assert run_policy.check(str(tmp_path)) == 0
    capsys.readouterr()
    tampered(tmp_path, file, nudge(name))
    assert run_policy.check(str(tmp_path)) == 1
    printed = capsys.readouterr().out
    assert all(f"FAILED: {words}" in printed for words in said)


def test_the_check_fails_on_a_changed_weight_that_no_vector_reaches(
    plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(plain, tmp_path)

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["weight_2"][3, 0] += 1e-6  # of log σ

    tampered(tmp_path, "policy.npz", change)
    assert run_policy.check(str(tmp_path)) == 1
    assert "FAILED: policy.npz is not the file that was exported" in capsys.readouterr().out


def test_the_check_fails_on_a_file_that_is_cut(plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(plain, tmp_path)
    whole = (tmp_path / "policy.npz").read_bytes()
    (tmp_path / "policy.npz").write_bytes(whole[: len(whole) // 2])
    assert run_policy.check(str(tmp_path)) == 1
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("policy.npz", lambda a: a["weight_1"].fill(np.nan), "FAILED: the actions cannot be compared (the action is not finite"),
        ("policy.npz", lambda a: a.update(weight_1=a["weight_1"][:, 1:]), "FAILED: the actions cannot be compared (shapes "),
        ("policy.npz", lambda a: a.update(metadata=np.array('{"format": 1}')), "FAILED: policy.npz or vectors.npz cannot be read"),
        ("vectors.npz", lambda a: a["observations"].fill(np.nan), "FAILED: the actions cannot be compared (the observation is not"),
        ("vectors.npz", dict.clear, "FAILED: policy.npz or vectors.npz cannot be read ("),
        ("vectors.npz", lambda a: a.update(observations=a["observations"][:0]), "FAILED: the actions cannot be compared ("),
    ],
)  # fmt: skip
def test_the_check_tells_of_any_damage_in_a_sentence(
    plain: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: Callable[[dict[str, np.ndarray]], None],
    said: str,
) -> None:
    copied(plain, tmp_path)
    tampered(tmp_path, file, change)
    assert run_policy.check(str(tmp_path)) == 1
    assert said in capsys.readouterr().out


def test_the_runner_as_a_program_checks_or_tells_or_says_how_it_is_called(plain: Any, tmp_path: Path) -> None:
    copied(plain, tmp_path)

    def done(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, str(tmp_path / "run_policy.py"), *arguments]
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ascii_only)
        return ran.returncode, ran.stdout, ran.stderr

    code, out, err = done()
    assert (code, err) == (0, "")
    assert re.search(r"temp +\\xb0C +-1 to 1\n", out)
    for wrong in (("--chek",), ("--check", "policy.npz")):
        assert done(*wrong) == (2, "", "usage: python run_policy.py [--check]\n")
    (tmp_path / "policy.npz").write_bytes((tmp_path / "policy.npz").read_bytes()[:1000])
    assert done() == (1, "", "FAILED: policy.npz cannot be read (File is not a zip file)\n")


def small(policy: Policy, folder: Path, **changed: Any) -> dict[str, Any]:
    how: Any = {"forms": ("numpy",), "logged": None, "distribution": False, "licence": "not stated", **changed}
    return export_policy(policy, folder, **how)


def test_a_form_that_computes_something_else_is_an_error(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, files = FORMS["numpy"]

    def wrong(policy: Policy, *rest: Any) -> Any:
        return write(make_policy(seed=1), *rest)

    monkeypatch.setitem(exporting.FORMS, "numpy", (wrong, files))
    with pytest.raises(InputError, match=r"policy\.npz differs from the policy by .* do not use it"):
        small(make_policy(), tmp_path)
    assert not (tmp_path / "export.json").exists()


def test_a_network_of_the_users_own_is_left_out_of_the_runner_alone(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    class Halved(TanhGaussianActor):
        def mean_action(self, observations: Tensor) -> Tensor:
            return super().mean_action(observations) / 2

    policy = make_policy()
    policy.actor.__class__ = Halved
    with pytest.raises(
        InputError, match=r"run_policy\.py knows the network of this project alone, and this is a Halved"
    ):
        small(policy, tmp_path)
    report = small(policy, tmp_path, forms=("torch",))
    assert report["forms"]["torch"]["largest_difference"] < 1e-5


def test_what_is_not_installed_is_left_out_with_what_installs_it(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    monkeypatch.setitem(exporting.FORMS, "torch", exporting.FORMS["numpy"])  # quick
    report = small(make_policy(), tmp_path, forms=None)
    assert report["forms"].keys() == {"numpy", "torch"}
    assert report["left_out"]["onnx"].startswith(
        "--to onnx needs onnxruntime: pip install -c constraints.txt -e '.[onnx]'"
    )
    with pytest.raises(InputError, match="--to onnx needs onnxruntime"):
        small(make_policy(), tmp_path, forms=("onnx",))


def test_a_cloned_policy_has_no_distribution(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--distribution: behaviour cloning trains the mean action alone"):
        small(make_policy(cloned=True), tmp_path, distribution=True)
    small(make_policy(cloned=True), tmp_path)
    with pytest.raises(ValueError, match="exported without its distribution"):
        run_policy.Policy(tmp_path / "policy.npz").distribution(np.zeros(3))


def test_an_export_leaves_the_policy_as_it_is(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    policy = make_policy(history=2).guard(on_invalid="safe_action", safe_action=[0.0, 1.0])
    first = policy(np.zeros(3))
    small(policy, tmp_path)
    assert policy.guards.on_invalid == "safe_action"
    following = policy(np.ones(3))
    policy.reset()
    assert np.array_equal(policy(np.zeros(3)), first)
    assert np.array_equal(policy(np.ones(3)), following)


def test_vectors_are_episodes_of_logged_and_random_states(
    make_policy: Callable[..., Policy], states: np.ndarray
) -> None:
    vectors = Vectors.of(make_policy(), states, each=(100, 50))
    assert (vectors.rows, vectors.logged, vectors.observations.shape) == (150, 100, (1, 150, 3))
    logged, random = vectors.observations[0, :100], vectors.observations[0, 100:]
    assert np.array_equal(logged[0], states[0])
    assert np.array_equal(logged[-1], states[-1])
    assert (np.abs(random) <= [2, 4, 6]).all()
    assert (np.abs(random) > [1, 2, 3]).any(0).all()


# The page


@dataclass(frozen=True)
class Caller:
    """A form as its user calls it."""

    act: Callable[[Any], Any]
    flags: Callable[[], bool]
    """Whether the last call said that a column lay beyond the log."""
    begin: Callable[[], None]


def of_class(policy: Any) -> Caller:
    """`Policy`, or the runner's."""
    return Caller(policy, lambda: bool(policy.outside_now), policy.reset)


def of_program(run: Callable[[Any], Any]) -> Caller:
    """A program that gives actions and flags, and remembers nothing."""
    told: list[Any] = []

    def act(given: Any) -> Any:
        told[:] = run(given)
        return told[0]

    return Caller(act, lambda: bool(np.asarray(told[1]).any()), lambda: None)


def outcome(form: Caller, given: Any) -> str:
    """What a form does with an input in the second step of an episode, in the words of the table."""
    shape = np.shape(given) if np.shape(given)[-1:] == (3,) else (3,)
    form.begin()
    try:
        before = np.asarray(form.act(np.zeros(shape, np.float32)))
    except Exception:  # a program takes no [D]
        before = np.zeros(2)
    try:
        action = np.asarray(form.act(given))
    except Exception as error:
        return (
            "ValueError" if "observation" in str(error) and isinstance(error, ValueError) else "an error of the runtime"
        )
    if np.isnan(action).any():
        words = "NaN"
    elif action.ravel().tolist() == SAFE:
        words = "the safe action"
    elif np.array_equal(action, before) and not np.array_equal(given, np.zeros(shape)):
        words = "the last action"
    else:
        words = "an action" if action.ndim == 1 else "actions"
        words += ", flagged" if form.flags() else ""
    return words


def bounds_held(form: Caller, _: Any) -> str:
    """Whether the actions of states far beyond the log keep to the bounds."""
    rows = np.random.default_rng(0).standard_normal((500, 1, 3)).astype(np.float32) * np.float32(1e6)
    form.begin()
    actions = np.concatenate([np.asarray(form.act(row)) for row in rows])
    assert np.ptp(actions, 0).min() > 1  # not one of them for all
    return "within the bounds" if ((actions >= [-1, 0]) & (actions <= [3, 10])).all() else "beyond the bounds"


def rate_held(form: Caller, _: Any) -> str:
    """Whether actions of states of the log change by `LIMIT` in a step at most, where that is asked for."""
    form.begin()
    actions = np.concatenate(
        [
            np.asarray(form.act(row[None]))
            for row in np.random.default_rng(1).uniform([-1, -2, -3], [1, 2, 3], (50, 3)).astype(np.float32)
        ]
    )
    changes = np.abs(np.diff(actions[:, 0])).max()
    return "by the limit at most" if changes <= LIMIT + 1e-6 else "by any amount"


SAFE, LIMIT = [0.5, 2.0], 0.25


def test_the_table_of_the_page_is_what_the_forms_do(plain: Any) -> None:
    session = onnxruntime.InferenceSession(str(plain.folder / "policy.onnx"))
    program: Any = torch.export.load(plain.folder / "policy.pt2").module()

    def both(**guards: Any) -> list[Caller]:
        limited: Any = {"rate_limits": {"valve": LIMIT}} if guards.pop("limited", False) else {}
        runner = run_policy.Policy(plain.folder / "policy.npz", **guards, **limited)
        return [of_class(copy.deepcopy(plain.policy).guard(**guards, **limited)), of_class(runner)]

    programs = {
        "`policy.onnx`": [of_program(lambda given: session.run(["action", "outside"], {"observation": given}))],
        "`policy.pt2`": [of_program(lambda given: program(torch.as_tensor(given))[:2])],
    }
    kinds: dict[str, dict[str, Any]] = {
        "`Policy`, `run_policy.py`": {},
        '`on_invalid="last"`': {"on_invalid": "last"},
        '`on_invalid="safe_action"`': {"on_invalid": "safe_action", "safe_action": SAFE},
    }
    forms = {**{name: both(**guards) for name, guards in kinds.items()}, **programs}
    limited = {**{name: both(**guards, limited=True) for name, guards in kinds.items()}, **programs}
    whole = {"temp": 0.25, "pressure": 0.0, "flow": 0.0}
    inputs: dict[str, Any] = {
        "[B, D] float32": np.full((5, 3), 0.25, np.float32),
        "[B, D] float64": np.full((5, 3), 0.25),
        "[D] float32": np.full(3, 0.25, np.float32),
        "a dict by column": whole,
        "a dict that lacks a column": {"temp": 0.25, "pressure": 0.0},
        "a dict with a column more": {**whole, "level": 0.0},
        "[B, D + 1] float32": np.zeros((5, 4), np.float32),
        "[1, D] with NaN": np.array([[0, np.nan, 0]], np.float32),
        "[1, D] with inf": np.array([[0, np.inf, 0]], np.float32),
        "[1, D] of 3e38, at which the network overflows": np.full((1, 3), 3e38, np.float32),
        "[1, D] beyond the log": np.array([[0, 99, 0]], np.float32),
    }
    rows = [["input", *forms], ["---"] * (len(forms) + 1)]
    asked = [(name, outcome, forms, given) for name, given in inputs.items()]
    asked += [
        ("actions of states up to 1e6", bounds_held, forms, None),
        ("change of an action, with `rate_limits`", rate_held, limited, None),
    ]
    for name, look, callers, given in asked:
        cells = [{look(caller, given) for caller in each} for each in callers.values()]
        rows.append([name, *("/".join(sorted(cell)) for cell in cells)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")
    assert table in (ROOT / "docs" / "guides" / "deploy.md").read_text(), f"the table should be\n{table}"
