"""The three forms of a policy; each function writes one into a folder and opens it again from there."""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopo_pl.errors import InputError
from mopo_pl.export import run_policy
from mopo_pl.export.comparison import Form, Vectors
from mopo_pl.export.graph import PolicyGraph, Steps
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.atomic_write import atomic_write

OPSET = 18
"""Version of ONNX's operators; runtimes since 2023 support it (onnxruntime 1.14)."""
RUNNER = Path(run_policy.__file__)
"""The file that is copied next to policy.npz."""


def write_onnx(policy: Policy, folder: Path, contract: Mapping[str, Any], vectors: Vectors) -> Form:
    """Write `policy.onnx`, with the contract in its metadata. Needs the extra `onnx`."""
    _require_onnx()
    graph = PolicyGraph(policy, distribution=contract["distribution"]).eval()
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            graph,
            graph.example(),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple({0: batch} for _ in graph.inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for key, value in {**contract, "opset": OPSET}.items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    with atomic_write(folder / "policy.onnx") as aside:
        aside.write_bytes(program.model_proto.SerializeToString())
    return Steps(_session(folder / "policy.onnx"), graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and messages of torch and onnxscript, such as that torchvision is not installed."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exporter.setLevel(logging.ERROR)
        try:
            yield
        finally:
            exporter.setLevel(before)


def _session(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        made = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        return tuple(torch.from_numpy(np.asarray(array)) for array in made)

    return run


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--to onnx needs {', '.join(missing)}: pip install -c constraints.txt -e '.[onnx]', or leave it out with "
            "--to torch or --to numpy"
        )


def write_torch(policy: Policy, folder: Path, contract: Mapping[str, Any], vectors: Vectors) -> Form:
    """Write `policy.pt2`, a program of `torch.export` that contains the contract as `contract.json`."""
    graph = PolicyGraph(policy, distribution=contract["distribution"]).eval()
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in graph.inputs)
    program = torch.export.export(graph, graph.example(), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"contract.json": json.dumps(contract, ensure_ascii=False)})
    with atomic_write(folder / "policy.pt2") as aside:
        aside.write_bytes(buffer.getvalue())
    return Steps(torch.export.load(folder / "policy.pt2").module(), graph)


def write_numpy(policy: Policy, folder: Path, contract: Mapping[str, Any], vectors: Vectors) -> Form:
    """Write `run_policy.py` and `policy.npz`. Raises InputError for a network that `run_policy.py` does not support."""
    if type(policy.actor) is not TanhGaussianActor:
        raise InputError(
            f"--to numpy: run_policy.py knows the network of this project alone, and this is a {type(policy.actor).__name__}; "
            "use --to onnx or --to torch"
        )
    arrays = _arrays(policy, distribution=contract["distribution"])
    checksums = {"policy.npz": run_policy.digest_of(arrays), "vectors.npz": vectors.digest()}
    metadata = {"format": run_policy.FORMAT, **contract, "sha256": checksums}
    with atomic_write(folder / "policy.npz") as aside, aside.open("wb") as file:
        np.savez(file, metadata=np.array(json.dumps(metadata, ensure_ascii=False)), **arrays)  # type: ignore[arg-type]  # taken for allow_pickle
    with atomic_write(folder / "run_policy.py") as aside:
        aside.write_bytes(RUNNER.read_bytes())
    return run_policy.Policy(folder / "policy.npz")


def _arrays(policy: Policy, *, distribution: bool) -> dict[str, np.ndarray]:
    """Return the policy's arrays in float32: scaling, bounds, and layers; the last layer gives μ, and log σ if `distribution` is set."""
    actor = policy.actor
    arrays = {
        "mean": actor.normaliser.mean,
        "std": actor.normaliser.divisor,
        "action_low": policy.action_low,
        "action_high": policy.action_high,
    }
    for number, layer in enumerate(actor.layers):
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        last = number == len(actor.layers) - 1
        rows = actor.action_dim if last and not distribution else len(bias)
        arrays |= {f"weight_{number}": weight[:rows], f"bias_{number}": bias[:rows]}
    return {name: np.array(tensor.detach().cpu().float().numpy()) for name, tensor in arrays.items()}


Write = Callable[[Policy, Path, Mapping[str, Any], Vectors], Form]
FORMS: dict[str, tuple[Write, tuple[str, ...]]] = {
    "numpy": (write_numpy, ("run_policy.py", "policy.npz")),
    "torch": (write_torch, ("policy.pt2",)),
    "onnx": (write_onnx, ("policy.onnx",)),
}
"""For each value of `--to`: the function that writes the form, and the files that it writes."""
