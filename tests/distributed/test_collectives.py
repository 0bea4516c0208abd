"""What ranks send each other."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mopo_pl.distributed import collectives


def test_tensors_are_gathered_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stayed on its rank's GPU would be read onto that GPU by every rank."""
    sent: list[Any] = []
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives.distributed, "all_gather_object", lambda values, value: sent.append(value))
    with FakeTensorMode():  # so that there is a GPU
        collectives.gather_from_ranks({"rows": [torch.zeros(2, device="cuda"), torch.zeros(3)], "updates": 7})
    rows = sent[0]["rows"]
    assert [(each.device.type, len(each)) for each in rows] == [("cpu", 2), ("cpu", 3)]
    assert sent[0]["updates"] == 7
