"""Mapping files of a user's own: `dataset=my_plant.yaml`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mopo_pl.cli import main
from mopo_pl.config.compose import compose, config_from_file, to_yaml
from mopo_pl.config.sources import mapping
from mopo_pl.errors import InputError

Printed = Callable[..., DictConfig]
PLANT = """\
# A plant.
data:
  source: logs/plant.csv
  columns: {observation: [temp, "joint_*"], action: [valve], reward: yield, episode: run}
  action_low: [0]
  action_high: [100]
termination: never
trainer: {max_epochs: 20}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """Beside the working folder, so that relative names are seen from another."""
    (tmp_path / "plants").mkdir()
    return tmp_path / "plants" / "my_plant.yaml"


def refused(path: Path, text: str, *arguments: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(InputError) as error:
        compose([f"dataset={path}", *arguments])
    return error.value.problems


def test_a_mapping_holds_what_a_choice_of_the_dataset_holds(plant: Path, printed: Printed) -> None:
    plant.write_text(PLANT)
    config = printed("dataset=../plants/my_plant.yaml")
    assert config.dataset == "../plants/my_plant.yaml"
    assert config.data.columns.observation == ["temp", "joint_*"]
    assert (config.data.columns.action, config.data.columns.reward) == (["valve"], "yield")
    assert (config.termination, config.trainer.max_epochs, config.data.action_high) == ("never", 20, [100])


def test_the_log_is_sought_beside_the_mapping(plant: Path) -> None:
    plant.write_text(PLANT)
    wanted = str(plant.parent / "logs" / "plant.csv")
    assert compose([f"dataset={plant}"]).data.source == wanted
    named = compose(["dataset=../plants/my_plant.yaml"])
    assert Path(named.data.source or "").resolve() == Path(wanted).resolve()
    assert named.dataset_label == "my_plant"


@pytest.mark.parametrize("source", ["/data/plant.csv", "collect:pendulum", "mujoco/hopper/medium-v0"])
def test_sources_elsewhere_stay_as_they_are(plant: Path, source: str) -> None:
    plant.write_text(f"data: {{source: '{source}'}}")
    assert compose([f"dataset={plant}"]).data.source == source


def test_the_command_line_goes_before_the_mapping(plant: Path) -> None:
    plant.write_text(PLANT)
    config = compose([f"dataset={plant}", "trainer.max_epochs=3", "data.source=other.csv", "data.columns.episode=none"])
    assert (config.trainer.max_epochs, config.data.source, config.data.columns.episode) == (3, "other.csv", "none")


def test_a_preset_goes_before_the_mapping_and_takes_its_published_numbers(plant: Path) -> None:
    plant.write_text(PLANT + "rollout: {starts: 7}\npublished: {paper: {coef: 0.25, horizon: 3}}\n")
    config = compose([f"dataset={plant}", "preset=paper"])
    assert (config.penalty.coef, config.rollout.horizon) == (0.25, 3)
    assert compose([f"dataset={plant}"]).rollout.starts == 7


def test_a_stored_configuration_needs_the_mapping_no_more(plant: Path, tmp_path: Path) -> None:
    plant.write_text(PLANT)
    config = compose([f"dataset={plant}"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    plant.unlink()
    assert config_from_file(tmp_path / "config.yaml") == config


def test_all_that_is_wrong_is_said_at_once(plant: Path) -> None:
    problems = refused(plant, "data: {sorce: a.csv, clip_actions: perhaps}\nsac: 3\ntrainer: {max_epochs: 0}")
    assert problems == [
        f"{plant}: data.sorce: there is no such key; did you mean data.source?",
        f"{plant}: data.clip_actions: Value 'perhaps' is not a valid bool (type str)",
        f"{plant}: sac: sac is a section: set one of its keys, such as sac.actor=…",
        "trainer.max_epochs=0 must be at least 1",
        f"dataset={plant} does not say where the log is: set data.source in it",
    ]


@pytest.mark.parametrize("published", ["3", "{paper: 3}", "[a]"])
def test_published_numbers_of_another_form_are_refused(plant: Path, published: str) -> None:
    (problem,) = refused(plant, f"{PLANT}published: {published}", "preset=paper")
    assert problem == f"{plant}: published must hold {{coef: λ, horizon: h}} for each preset"


# Code


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file when it is imported."""
    (tmp_path / "trap_of_a_mapping.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef rule(s, a, n): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "sprung"


CODE = {
    "termination": "trap_of_a_mapping:rule",
    "env_id": "trap_of_a_mapping:Trap-v0",
    "penalty.name": "trap_of_a_mapping:rule",
    "sac.actor": "trap_of_a_mapping:rule",
    "env_kwargs.entry_point": "trap_of_a_mapping:rule",
}


@pytest.mark.parametrize("key", CODE)
def test_code_that_a_mapping_names_is_not_run_unless_it_is_given_again(plant: Path, trap: Path, key: str) -> None:
    section, _, name = key.rpartition(".")
    line = f"{name}: '{CODE[key]}'"
    text = "data: {source: plant.csv}\n" + (f"{section}: {{{line}}}" if section else line)
    (problem,) = refused(plant, text)
    what, so = (
        ("a file, an address or Python code, which a file must not choose by itself", "if you trust it, ")
        if section == "env_kwargs"
        else ("Python code, which a file must not run by itself", "read that code, then ")
    )
    assert problem == (
        f"{plant}: {key}={CODE[key]} names {what}: {so}give {key}={CODE[key]} on the command line too, or trust=true"
    )
    assert main(["dataset=" + str(plant), "--dry-run"]) == 2
    assert not trap.exists()
    config = compose([f"dataset={plant}", f"{key}={CODE[key]}"])
    assert CODE[key] in to_yaml(config)


def test_code_of_a_mapping_that_the_command_line_replaces_is_not_used(plant: Path) -> None:
    plant.write_text("data: {source: plant.csv}\ntermination: trap:rule\nenv_kwargs: {entry_point: 'trap:rule'}")
    config = compose([f"dataset={plant}", "termination=never", "env_kwargs={}"])
    assert (config.termination, config.env_kwargs) == ("never", {})


@pytest.mark.parametrize("key", mapping.NOT_OF_A_LOG)
def test_what_is_not_of_a_log_stays_on_the_command_line(plant: Path, key: str) -> None:
    value = {"logger": "{'os:system': {command: ls}}", "callbacks": "['os:abort']"}.get(key, "elsewhere")
    (problem,) = refused(plant, f"{PLANT}{key}: {value}")
    assert problem == f"{plant}: {key} cannot be set in a mapping file; give it on the command line"


def test_names_of_columns_may_hold_a_colon(plant: Path) -> None:
    plant.write_text("data: {source: plant.csv, columns: {observation: ['plc:temp'], reward: 'plc:yield'}}")
    assert compose([f"dataset={plant}"]).data.columns.reward == "plc:yield"


def test_units_may_hold_a_colon(plant: Path) -> None:
    plant.write_text(PLANT.replace("  action_low", "  units: {temp: °C, valve: 'open:closed'}\n  action_low"))
    assert compose([f"dataset={plant}"]).data.units == {"temp": "°C", "valve": "open:closed"}


def test_units_of_columns_with_brackets_and_dots_in_their_names(plant: Path) -> None:
    plant.write_text(PLANT.replace("  action_low", "  units: {'Temp [°C]': °C, 'plc.valve': '%'}\n  action_low"))
    assert compose([f"dataset={plant}"]).data.units == {"Temp [°C]": "°C", "plc.valve": "%"}
    assert compose([f"dataset={plant}", "data.units.Temp [°C]=K"]).data.units["Temp [°C]"] == "K"


def test_a_mistake_in_yaml_is_located(plant: Path) -> None:
    (problem,) = refused(plant, "data:\n  columns: {observation: [Temp [°C], b]}")
    assert "in line 2, column " in problem
    assert problem.endswith("quote names and texts that hold any of [ ] { } : , #")


# Files that are none


def test_the_environment_variables_are_not_read(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "hunter2")
    (problem,) = refused(plant, "data: {source: '${oc.env:SECRET_OF_A_TEST}'}")
    assert problem == f"{plant}: data.source: ${{…}} and ??? are not supported; write the value"
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data:\n  source: ???", "${…} and ??? are not supported"),
        ("- a", "must be a map of keys"),
        ("plant", "must be a map of keys"),
        ("data: {source: [", "is not valid YAML"),
        ("data: !!python/object/apply:os.system ['ls']", "is not valid YAML"),
        ("a: &a [1, 1]\nb: [*a, *a]", "aliases (*a) are not supported"),
        ("a: " + "[" * 30 + "]" * 30, "more than 20 maps and lists inside each other"),
        ("a: " + "[" * 100_000, "more than 20 maps and lists inside each other"),
        ("", "does not say where the log is"),
        ("data: plant.csv", "data is a section"),
        ("data: {source: 3.5}", ""),
        ("3: 4", "there is no such key"),
        ("data: {source: plant.csv}\ndata: {source: other.csv}", "is not valid YAML"),
        ("#" * 1_000_001, "is larger than 1000000 bytes"),
    ],
    ids=range(14),
)
def test_files_that_are_no_mapping_are_refused(plant: Path, text: str, says: str) -> None:
    plant.write_text(text)
    if not says:  # a number is a name too
        assert compose([f"dataset={plant}"]).data.source == "3.5"
        return
    problems = refused(plant, text)
    assert says in problems[0]
    assert len(str(problems)) < 1000


def test_bytes_that_are_no_text_are_refused(plant: Path) -> None:
    plant.write_bytes(b"data: {source: \xff\xfe}")
    with pytest.raises(InputError, match="is not valid YAML"):
        compose([f"dataset={plant}"])


def test_a_mapping_that_is_not_there_is_named(plant: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        compose([f"dataset={plant}"])


@pytest.mark.parametrize("data", ["[plant.csv]", "plant.csv", "5"])
def test_a_section_that_is_no_map_of_keys_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "plant.yaml").write_text(f"data: {data}\n")
    with pytest.raises(InputError, match="data is a section: set one of its keys"):
        compose([f"dataset={tmp_path / 'plant.yaml'}"])
