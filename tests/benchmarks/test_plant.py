"""The plant of benchmarks/plant.py: what it conserves, when it alarms, and the faults of its log, which the checks name."""

import csv
from pathlib import Path

import numpy as np
import plant
import pytest

from mopo_pl.config.compose import compose
from mopo_pl.run.preparation.inputs import examine_inputs


def test_what_flows_in_and_out_is_the_level() -> None:
    """Without a feed a minute takes the outflow's volume of a tank of 2 m³; with as much feed, none."""
    tank = plant.Tank(5, 0)
    level, outflow = tank.level.copy(), tank._outflow()
    tank.step(np.zeros((5, 2)))
    assert np.allclose(level - tank.level, 60 * outflow / 2 * 100, rtol=0.01)
    tank = plant.Tank(5, 0)
    level = tank.level.copy()
    feed = 100 * tank._outflow() / plant.FLOW
    tank.step(np.stack([np.zeros(5), feed], 1))
    assert np.allclose(level, tank.level, atol=1e-9)


def test_a_tank_settles_where_heat_in_is_heat_out() -> None:
    tank = plant.Tank(1, 0)
    tank.demand[:], tank.feed_mean[:] = 50.0, 15.0
    tank.level[:], tank.temp[:] = 50.0, 55.0
    tank.rng = np.random.default_rng(0)
    heater = np.zeros(1)
    for _ in range(600):
        tank.demand[:], tank.feed_temp[:] = 50.0, 15.0
        heater = np.clip(40 + 5 * (60 - tank.temp), 0, 120)
        tank.step(np.stack([heater, [50.0]], 1))
    through = 3e3 * (tank.jacket - tank.temp)
    reaction = 12e3 * np.exp(0.1 * (tank.temp - 65)) * 0.02 * tank.level
    assert np.allclose(through, 1e3 * heater, rtol=1e-3)
    assert np.allclose(through + reaction, plant.WATER * plant.FLOW * 0.5 * (tank.temp - 15), rtol=2e-3)


@pytest.mark.parametrize(("column", "value"), [("temp", 95.0), ("level", 18.0), ("level", 93.0)])
def test_an_alarm_costs_a_lost_batch(column: str, value: float) -> None:
    calm, lost = plant.Tank(1, 0), plant.Tank(1, 0)
    setattr(lost, column, np.array([value]))
    action = np.array([[0.0, 30.0]])
    assert calm.step(action)[1].tolist() == [False]
    earned, alarm = lost.step(action)
    assert alarm.tolist() == [True]
    assert earned[0] < -plant.LOST + 3


def test_nothing_is_earned_after_an_alarm() -> None:
    _, _, earned, alarm = plant.drive(8, 0, lambda seen: np.tile([120.0, 20.0], (len(seen), 1)))
    assert alarm.sum(0).tolist() == [1] * 8
    for batch in range(8):
        last = int(alarm[:, batch].argmax())
        assert not earned[last + 1 :, batch].any()
        assert earned[:last, batch].all()


def test_the_checks_name_the_faults_of_its_log(tmp_path: Path) -> None:
    plant.write(tmp_path, batches=20, seed=0)
    with (tmp_path / "plant.csv").open() as file:
        rows = list(csv.DictReader(file))
    empty = sum("" in row.values() for row in rows)
    assert empty > 0
    log = examine_inputs(compose([f"dataset={tmp_path / 'plant.yaml'}"]))
    assert log.dataset is not None
    assert len(log.dataset) == len(rows) - empty
    said = {finding.name: finding.text for finding in log.findings if finding.level != "OK"}
    remarks = [finding.text for finding in log.findings if finding.name == "reading"]
    assert f"{empty} of {len(rows)} rows have missing values" in remarks[0]
    assert "clock skips after 1 row" in remarks[1]
    assert "feed_temp repeats one value" in said["columns-stuck"]
    assert "pressure" in said["columns-scales"]
    assert "outflow" in said["columns-scales"]
    assert "are copies of earlier ones" in said["episodes-copied"]
    # The customer's valve jumps, and the outflow with it.
    assert said["rows-jump"].endswith("; outflow alone jumps there")
    assert log.rule is not None
    assert not [finding for finding in log.findings if finding.level == "STOP"]
