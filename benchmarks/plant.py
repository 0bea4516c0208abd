"""A trial on a plant: a CSV file as a historian writes one, a mapping file, a policy from the defaults, judged by the simulator.

    python benchmarks/plant.py write FOLDER
    python -m mopo_pl inspect FOLDER/plant.yaml --html FOLDER/plant.html
    python train.py dataset=FOLDER/plant.yaml threads=1 seed=0 run_dir=FOLDER/s0
    python benchmarks/plant.py judge FOLDER/s0 --json FILE
    python benchmarks/plant.py proportional

The plant is a stirred tank that is heated through a jacket while an exothermic reaction runs in it. A row is a minute of one of
`BATCHES` batches; a batch is lost where the temperature or the level passes its limits. Four operators drive it, each with set points
of their own, a hand that moves every few minutes, and noise. `write` gives their log the faults of a real one: missing values, a
sensor that stood still, a batch that was exported twice, a gap in time; columns differ in scale by ten million. `judge` drives the same
batches (of another seed) by the operators and by a policy, and counts alarms.
"""

import argparse
import csv
import datetime
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mopo_pl import Policy

BATCHES, MINUTES = 400, 120
COLUMNS = ("tank_temp", "jacket_temp", "feed_temp", "level", "demand", "pressure", "outflow")
"""What is measured: °C, °C, °C, %, %, Pa at the bottom, m³/s."""
ACTIONS = ("heater", "feed")
"""What is set: kW, % of the feed valve."""
LOW, HIGH = np.array([0.0, 0.0]), np.array([120.0, 100.0])
HOTTEST, LEVELS = 80.0, (20.0, 90.0)
"""Limits whose passing is an alarm: the batch is lost [°C, %]."""
WATER = 4.18e6
"""Heat that a cubic metre takes [J/(m³ K)]."""
FLOW = 6e-4
"""Through a valve that is open [m³/s]."""
LOST = 20.0
"""What a lost batch costs [€]."""
MAPPING = """\
# A stirred tank, its historian's CSV file, one row a minute.
data:
  source: plant.csv
  columns:
    observation: [tank_temp, jacket_temp, feed_temp, level, demand, pressure, outflow]
    action: [heater, feed]
    reward: earned
    terminal: alarm
    episode: batch
    time: clock
  action_low: [0, 0]
  action_high: [120, 100]
  units:
    "*_temp": °C
    level: "%"
    demand: "%"
    pressure: Pa
    outflow: m³/s
    heater: kW
    feed: "%"
termination: {bounds: {tank_temp: [null, 80], level: [20, 90]}}
trainer:
  max_epochs: 20  # 20 000 updates
"""


class Tank:
    """B tanks side by side. `step` gives what was earned in the minute [B], and whether an alarm ended the batch [B]."""

    def __init__(self, batches: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        uniform = self.rng.uniform
        self.temp, self.jacket = uniform(45, 65, batches), uniform(45, 70, batches)
        self.level, self.demand = uniform(35, 75, batches), uniform(30, 90, batches)
        self.feed_mean = uniform(8, 22, batches)
        self.feed_temp = self.feed_mean.copy()

    def measured(self) -> np.ndarray:
        """The columns, with the noise of their sensors [B, 7]."""
        outflow = self._outflow()
        true = [self.temp, self.jacket, self.feed_temp, self.level, self.demand, 9810 * 2 * self.level / 100, outflow]
        noise = np.array([0.05, 0.05, 0.05, 0.05, 0.0, 10.0, 1e-7])
        return np.stack(true, 1) + noise * self.rng.standard_normal((len(self.temp), len(COLUMNS)))

    def _outflow(self) -> np.ndarray:
        """The customer's valve lets out more from a fuller tank [m³/s]."""
        return FLOW * self.demand / 100 * np.sqrt(self.level / 50)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A minute with the heater [kW] and the feed valve [%] as they are set [B, 2]."""
        heater, feed = np.clip(actions, LOW, HIGH).T
        earned = np.zeros(len(heater))
        for _ in range(6):  # Euler's method, 10 s a step
            volume, inflow, outflow = 0.02 * self.level, FLOW * feed / 100, self._outflow()
            through_wall = 3e3 * (self.jacket - self.temp)
            speed = np.exp(0.1 * np.minimum(self.temp - 65, 25))
            reaction = 12e3 * speed * volume
            self.jacket += 10 * (1e3 * heater - through_wall) / (0.1 * WATER)
            warming = through_wall + reaction + WATER * inflow * (self.feed_temp - self.temp)
            self.temp += 10 * warming / (WATER * volume)
            self.level = np.clip(self.level + 10 * (inflow - outflow) / 2 * 100, 1.0, 110.0)
            converted = speed / (speed + outflow / 3e-4)
            earned += 10 * (100 * outflow * converted - 6e-5 * heater)  # .10 € a litre, .22 €/kWh
        self.feed_temp += 0.1 * (self.feed_mean - self.feed_temp) + 0.3 * self.rng.standard_normal(len(earned))
        moved = self.rng.random(len(earned)) < 1 / 30
        self.demand = np.where(moved, self.rng.uniform(30, 90, len(earned)), self.demand)
        alarm = (self.temp > HOTTEST) | (self.level < LEVELS[0]) | (self.level > LEVELS[1])
        return earned - LOST * alarm, alarm


class Operators:
    """Four of them, batch by batch in turn: proportional control by hand, moved every few minutes."""

    def __init__(self, batches: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        who = np.arange(batches) % 4
        self.temp = np.array([60.0, 64.0, 68.0, 72.0])[who] + self.rng.normal(0, 2, batches)
        self.level = np.array([55.0, 65.0, 45.0, 60.0])[who] + self.rng.normal(0, 5, batches)
        self.patience = np.array([2, 4, 6, 8])[who]
        self.actions = np.zeros((batches, 2))
        self.minute = 0

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """[B, 7] to [B, 2]."""
        heater = 35 + 5 * (self.temp - seen[:, 0]) + 12 * self.rng.standard_normal(len(seen))
        feed = seen[:, 4] + 2.0 * (self.level - seen[:, 3]) + 12 * self.rng.standard_normal(len(seen))
        moves = (self.minute % self.patience == 0)[:, None]
        self.actions = np.where(moves, np.clip(np.stack([heater, feed], 1), LOW, HIGH), self.actions)
        self.minute += 1
        return self.actions


def drive(
    batches: int, seed: int, control: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What was seen [T, B, 7], done [T, B, 2], earned [T, B], and whether the alarm came in that minute [T, B]."""
    tank, taken = Tank(batches, seed), []
    for _ in range(MINUTES):
        seen = tank.measured()
        actions = control(seen)
        taken.append((seen, actions, *tank.step(actions)))
    seen, actions, earned, alarm = (np.stack(each) for each in zip(*taken, strict=True))
    over = np.cumsum(alarm, 0) - alarm > 0  # what follows the first alarm did not happen
    return seen, actions, np.where(over, 0.0, earned), alarm & ~over


def write(folder: Path, batches: int, seed: int) -> None:
    """Write plant.csv, with its faults, and plant.yaml."""
    seen, actions, earned, alarm = drive(batches, seed, Operators(batches, seed))
    rng = np.random.default_rng(seed)
    over = np.cumsum(alarm, 0) - alarm > 0
    seen[40:80, 5, 2] = seen[40, 5, 2]  # the feed's sensor stood still
    begin = datetime.datetime(2026, 3, 2, 6, 0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "plant.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["batch", "clock", *COLUMNS, *ACTIONS, "earned", "alarm"])
        for batch in range(batches):
            rows = []
            for minute in np.flatnonzero(~over[:, batch]):
                clock = begin + datetime.timedelta(hours=3 * batch, minutes=int(minute))
                cells = [f"{value:.6g}" for value in seen[minute, batch]]
                cells = ["" if rng.random() < 0.002 else cell for cell in cells]
                set_to = [f"{value:.2f}" for value in actions[minute, batch]]
                rows.append([clock, *cells, *set_to, f"{earned[minute, batch]:.5f}", int(alarm[minute, batch])])
            if batch == 9:
                del rows[50:62]  # nothing was recorded
            table.writerows([f"B{batch:04d}", *row] for row in rows)
            if batch == 17:
                table.writerows([f"B{batch:04d}-again", *row] for row in rows)
    (folder / "plant.yaml").write_text(MAPPING, encoding="utf-8")


def verdict(batches: int, seed: int, control: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Alarms per batch, and the return of a batch [€] with the standard error of its mean."""
    _, _, earned, alarm = drive(batches, seed, control)
    returns = earned.sum(0)
    return {
        "alarms_per_batch": round(float(alarm.any(0).mean()), 4),
        "return": round(float(returns.mean()), 3),
        "standard_error": round(float(returns.std() / np.sqrt(batches)), 3),
    }


def proportional(temp: float, level: float) -> Callable[[np.ndarray], np.ndarray]:
    """The operators' law with one pair of set points [°C, %], moved each minute and without noise."""

    def control(seen: np.ndarray) -> np.ndarray:
        heater, feed = 35 + 5 * (temp - seen[:, 0]), seen[:, 4] + 2.0 * (level - seen[:, 3])
        return np.clip(np.stack([heater, feed], 1), LOW, HIGH)

    return control


def judge(run: Path, batches: int, seed: int) -> dict[str, object]:
    """Operators and the run's policy on the same batches."""
    policy = Policy.load(run)
    result = json.loads((run / "result.json").read_text())
    return {
        "run": run.name,
        "seed": result["seed"],
        "updates": result["updates"],
        "seconds": result["seconds"],
        "dataset_hash": result["dataset"]["hash"],
        "versions": result["versions"],
        "batches": batches,
        "operators": verdict(batches, seed, Operators(batches, seed)),
        "policy": verdict(batches, seed, lambda seen: policy(seen.astype(np.float32))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    writing = commands.add_parser("write", help="write plant.csv and plant.yaml into a folder")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--batches", type=int, default=BATCHES)
    writing.add_argument("--seed", type=int, default=0)
    trying = commands.add_parser("proportional", help="drive batches by proportional control with many set points")
    trying.add_argument("--batches", type=int, default=400)
    trying.add_argument("--seed", type=int, default=1000)
    judging = commands.add_parser("judge", help="drive batches by the operators and by the policy of each run")
    judging.add_argument("runs", nargs="+", type=Path)
    judging.add_argument("--batches", type=int, default=400)
    judging.add_argument("--seed", type=int, default=1000)
    judging.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.command == "write":
        write(given.folder, given.batches, given.seed)
        return
    if given.command == "proportional":
        for temp in range(60, 79, 2):
            for level in range(30, 71, 10):
                found = verdict(given.batches, given.seed, proportional(temp, level))
                print(
                    f"{temp} °C, {level} %: {found['alarms_per_batch']:.3f} alarms, {found['return']:.1f}", flush=True
                )
        return
    judged = [judge(run, given.batches, given.seed) for run in given.runs]
    print(
        "| seed | updates | operators: alarms per batch, return | policy: alarms per batch, return |\n|---|---|---|---|"
    )
    for each in judged:
        cells = [
            f"{who['alarms_per_batch']:.3f}, {who['return']:.1f} ± {who['standard_error']:.1f}"  # type: ignore[index]
            for who in (each["operators"], each["policy"])
        ]
        print(f"| {each['seed']} | {each['updates']} | {' | '.join(cells)} |")
    if given.json:
        given.json.write_text(json.dumps(judged, indent=1) + "\n")


if __name__ == "__main__":
    main()
