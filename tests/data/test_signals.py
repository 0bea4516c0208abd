"""Columns by name, unit and range."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import ColumnNames, OfflineDataset
from mopo_pl.data.log.history import with_history
from mopo_pl.data.signals import Signals, signals_of
from mopo_pl.errors import InputError

Make = Callable[..., OfflineDataset]
NAMES = ColumnNames(("temp", "joint_a", "joint_b"), ("valve", "pump"))


def test_ranges_are_those_of_the_log_in_its_own_units(make_dataset: Make) -> None:
    log = replace(
        make_dataset(), names=NAMES, action_low=np.array([0, -1], np.float32), action_high=np.array([10, 1], np.float32)
    )
    observations, actions = signals_of(log, {"joint_*": "rad", "temp": "°C", "pump": "1/s"})
    assert observations.names == ("temp", "joint_a", "joint_b")
    assert (observations.units, actions.units) == (("°C", "rad", "rad"), ("", "1/s"))
    rows = log.transitions.observations.numpy()
    np.testing.assert_array_equal(observations.low, rows.min(0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(observations.high, rows.max(0))  # type: ignore[arg-type]
    scaled = log.transitions.actions.numpy()
    expected = [(scaled[:, 0] + 1) * 5, scaled[:, 1]]
    np.testing.assert_allclose(actions.low, [column.min() for column in expected], atol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(actions.high, [column.max() for column in expected], atol=1e-6)  # type: ignore[arg-type]


def test_of_a_history_they_are_those_of_the_newest_observation(make_dataset: Make) -> None:
    log = replace(make_dataset(), names=NAMES)
    plain, windows = signals_of(log, {}), signals_of(with_history(log, 3), {})
    assert [signals.plain() for signals in windows] == [signals.plain() for signals in plain]


def test_columns_without_names_are_numbered(make_dataset: Make) -> None:
    observations, actions = signals_of(make_dataset(), {"1": "m", "action 1": "N"})
    assert (observations.names, actions.names) == (("0", "1", "2"), ("action 0", "action 1"))
    assert (observations.units, actions.units) == (("", "m", ""), ("", "N"))


def test_a_unit_of_no_column_is_refused_with_what_was_meant(make_dataset: Make) -> None:
    log = replace(make_dataset(), names=NAMES)
    with pytest.raises(InputError, match=r"data\.units\.tmep: there is no such column; did you mean temp\?"):
        signals_of(log, {"tmep": "°C"})


def test_units_are_given_on_the_command_line() -> None:
    assert compose(["data.units.temp=°C", "data.units.2=bar"]).data.units == {"temp": "°C", "2": "bar"}
    assert compose(['data.units={temp: °C, "joint_*": rad}']).data.units == {"temp": "°C", "joint_*": "rad"}


def test_a_description_is_read_back_to_the_bit_and_one_of_other_columns_is_not() -> None:
    low, high = np.array([0.1, -1 / 3], np.float32), np.array([1e-30, 7], np.float32)
    plain = Signals(("a", "b"), ("m", ""), low, high).plain()
    read = Signals.from_plain(plain, 2)
    assert read.plain() == plain
    np.testing.assert_array_equal(read.low, low)  # type: ignore[arg-type]
    assert Signals.from_plain({**plain, "low": None, "high": None}, 2).low is None
    for wrong in ({"names": ["a"]}, {"names": ["a", "a"]}, {"low": [1.0]}, {"units": ["m"]}):
        with pytest.raises(ValueError, match="not one of 2 columns with different names"):
            Signals.from_plain({**plain, **wrong}, 2)
