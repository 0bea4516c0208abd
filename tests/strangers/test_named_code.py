"""Code and places that a stored file names are followed only where the command line says so."""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf

from mopo_pl.__main__ import main as program
from mopo_pl.cli import main
from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.finished.estimate_command import configuration_of

TRAP = "trap_of_a_stranger"
CODE = {
    "termination": f"{TRAP}:rule",
    "reward": f"{TRAP}:rule",
    "penalty.name": f"{TRAP}:rule",
    "sac.actor": f"{TRAP}:Trap",
    "callbacks": f"[{TRAP}:Trap]",
    "env_id": f"{TRAP}:Trap-v0",
    "logger": f"{{'{TRAP}:Trap': {{}}}}",
}
PLACES = {
    "env_kwargs": ("{xml_file: /etc/passwd}", "env_kwargs.xml_file=/etc/passwd"),
    "logger": ("{csv: {save_dir: /tmp/elsewhere}}", "logger.csv.save_dir=/tmp/elsewhere"),
    "logger.csv.name": ("'..'", "logger.csv.name=.."),
    "logger.mlflow": ("{tracking_uri: 'http://evil'}", "logger.mlflow.tracking_uri=http://evil"),
    "logger.wandb": ("{settings: {base_url: 'http://evil'}}", "logger.wandb.settings.base_url=http://evil"),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test imports the trap anew."""
    yield
    sys.modules.pop(TRAP, None)


def problems(*arguments: str) -> list[str]:
    with pytest.raises(InputError) as error:
        compose(arguments)
    return error.value.problems


def stored(run: Path, *settings: str) -> Path:
    """The run, with a configuration of these settings, written as on a command line."""
    values = OmegaConf.create({"logger": {}})
    for setting in settings:
        key, _, value = setting.partition("=")
        OmegaConf.update(values, key, OmegaConf.create(f"value: {value}").value)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(values))
    return run


# Configuration of a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", CODE)
def test_code_of_a_stored_configuration_is_not_run(
    run: Path, trap: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(run, f"{key}={CODE[key]}")
    named = CODE[key] if key not in ("callbacks", "logger") else f"{TRAP}:Trap"
    assert main([f"resume={run}"]) == 2
    problem = capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")
    assert problem == (
        f"{run}/config.yaml: {key}={named} names Python code, which a file must not run by itself: read that code, then add "
        "trust=true"
    )
    assert not trap.exists()
    assert TRAP in to_yaml(compose([f"resume={run}", "trust=true"]))


def test_code_runs_where_the_user_allows_it(run: Path, trap: Path) -> None:
    """Else the tests above would hold for a trap that cannot spring."""
    stored(run, f"callbacks=[{TRAP}:Trap]", "data.source=collect:pendulum", "data.collect_steps=50", "stage=dynamics")
    assert main([f"resume={run}", "trust=true"]) == 2  # it is no callback
    assert trap.exists()


@pytest.mark.parametrize("key", PLACES)
def test_places_of_a_stored_configuration_are_not_reached(run: Path, key: str) -> None:
    value, named = PLACES[key]
    stored(run, f"{key}={value}")
    (problem,) = problems(f"resume={run}")
    assert problem == (
        f"{run}/config.yaml: {named} names a file, an address or Python code, which a file must not choose by itself: if you "
        "trust it, add trust=true"
    )
    assert compose([f"resume={run}", "trust=true"]).resume == str(run)


def test_a_logger_that_the_command_line_replaces_is_not_asked_about(run: Path, trap: Path) -> None:
    stored(run, f"logger={CODE['logger']}")
    assert compose([f"resume={run}", "logger=csv"]).logger == {"csv": {}}
    assert not trap.exists()


def test_a_module_in_the_run_folder_is_not_found(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders below the current one can be imported as packages."""
    sprung = tmp_path / "sprung"
    (run / "shipped.py").write_text(f"open({str(sprung)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    stored(run, f"termination={run.name}.shipped:rule")
    assert main([f"resume={run}"]) == 2
    assert not sprung.exists()


def test_trust_is_of_the_command_line_alone(run: Path) -> None:
    stored(run, f"termination={TRAP}:rule")
    assert "names Python code" in problems(f"resume={run}", "trust=true", "trust=false")[0]
    assert problems(f"resume={run}", "trust=yes") == ["trust=yes must be true or false"]
    with (run / "config.yaml").open("a") as file:
        file.write("trust: true\n")
    assert problems(f"resume={run}", "trust=true")[0].startswith(f"{run}/config.yaml: trust: there is no such key")


@pytest.mark.parametrize("text", ["${oc.env:SECRET_OF_A_TEST}", "a${oc.env:SECRET_OF_A_TEST}b", "${oc.decode:1}"])
@pytest.mark.parametrize("key", ["run_dir", "group", "env_kwargs", "termination"])
def test_no_resolver_is_called_for_a_stored_configuration(
    run: Path, monkeypatch: pytest.MonkeyPatch, key: str, text: str
) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "secret")
    value = f"{{a: '{text}'}}" if key == "env_kwargs" else f"'{text}'"
    (run / "config.yaml").write_text(f"{key}: {value}\n")
    (problem,) = problems(f"resume={run}")
    named = "env_kwargs.a" if key == "env_kwargs" else key
    assert problem == f"{run}/config.yaml: {named}: ${{…}} and ??? are not supported; write the value"


@pytest.mark.parametrize("key", ["run_dir", "env_kwargs.a", "logger.csv.name", "logger"])
def test_no_resolver_is_called_for_the_command_line(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "secret")
    text = "{csv: {name: '${oc.env:SECRET_OF_A_TEST}'}}" if key == "logger" else "${oc.env:SECRET_OF_A_TEST}"
    assert problems(f"{key}={text}") == [f"{key}={text}: ${{…}} and ??? are not supported; write the value"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1, 1]\nb: [*a, *a]", "aliases (*a) are not supported"),
        ("a: " + "[" * 50, "more than 20 maps and lists"),
        ("#" * 1_000_001, "is larger than 1000000 bytes"),
        ("seed: [1", "is not valid YAML"),
        ("- 1\n", "must be a map of keys"),
        ("seed: \udcff", "is not valid YAML"),
    ],
)
def test_a_configuration_that_is_none_ends_in_one_sentence(run: Path, text: str, said: str) -> None:
    (run / "config.yaml").write_text(text, errors="surrogateescape")
    (problem,) = problems(f"resume={run}")
    assert problem.startswith(f"{run / 'config.yaml'}")
    assert said in problem


def test_a_folder_that_may_not_be_looked_into_is_said_to_be(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of mode 0700 of another user; root, who runs some of these tests, may look into any."""

    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert problems(f"resume={run}") == [f"{run}/config.yaml cannot be read (Permission denied)"]


def test_an_ensemble_from_elsewhere_brings_no_places_with_it(run: Path) -> None:
    stored(run, "env_id=Hopper-v5", "env_kwargs={xml_file: /etc/passwd}")
    given = ["stage=policy", f"dynamics_from={run}"]
    (problem,) = problems(*given)
    assert "env_kwargs.xml_file=/etc/passwd names a file" in problem
    assert compose([*given, "env_kwargs={}"]).env_kwargs == {}


def test_commands_that_are_printed_can_be_pasted_and_allow_what_the_user_named(tmp_path: Path) -> None:
    folder, own = RunFolder(tmp_path / "out #1"), compose(["sac.actor=mine:Actor", "env_id=mine:Env-v0"])
    assert folder.resume_command(compose([])) == f"python train.py 'resume={tmp_path}/out #1'"
    assert folder.resume_command(own) == f"python train.py 'resume={tmp_path}/out #1' trust=true"
    assert folder.evaluate_command(compose(["sac.actor=mine:Actor"])) == (
        f"python -m mopo_pl evaluate '{tmp_path}/out #1' --actor mine:Actor --episodes 100 --seed 1"
    )
    assert folder.evaluate_command(own) == (
        f"python -m mopo_pl evaluate '{tmp_path}/out #1' trust=true --actor mine:Actor --episodes 100 --seed 1"
    )


# Commands about a finished run ---------------------------------------------------------------------------------------


REFUSED = {
    f"env_id={TRAP}:Trap-v0": f"env_id={TRAP}:Trap-v0 names Python code",
    "env_kwargs={xml_file: /etc/passwd}": "env_kwargs.xml_file=/etc/passwd names a file, an address or Python code",
}
WORDS = {
    "evaluate": ["--episodes", "1"],
    "export": ["--to", "numpy"],
    "push": [],
    "estimate": [],
    "report": ["--json"],
}


@pytest.mark.parametrize("command", WORDS)
@pytest.mark.parametrize("setting", REFUSED)
def test_no_command_about_a_run_follows_what_its_files_name(
    run: Path, trap: Path, command: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(run, setting, "data.source=collect:pendulum", "data.collect_steps=50")
    result = {"dataset": {"name": "pendulum", "hash": "0" * 64}, "env_id": None, "behaviour_return": 0.0}
    result |= {"updates": 1, "seconds": {"policy": 1.0}}
    (run / "result.json").write_text(json.dumps(result))
    described(run, env_id=f"{TRAP}:Trap-v0", env_kwargs={})
    if "env_kwargs" in setting:
        described(run, env_id="Hopper-v5", env_kwargs={"xml_file": "/etc/passwd"})
    words = [command, str(run), *WORDS[command]]
    assert program(words) == 2
    (problem,) = capsys.readouterr().err.splitlines()
    file = "policy/policy.json" if command == "evaluate" else "config.yaml"
    assert problem.startswith(f"error: {run / file}: {REFUSED[setting]}, which a file must not ")
    assert problem.endswith("trust=true")
    assert not trap.exists()
    with suppress(Exception):  # it registers no environment, and the stranger's run is none
        program([*words, "trust=true"])
    assert REFUSED[setting] not in capsys.readouterr().err
    assert trap.exists() == (TRAP in setting)


@pytest.mark.parametrize("command", ["export", "push"])
def test_nothing_but_trust_may_be_given_to_export_and_push(
    run: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program([command, str(run), "env_id=Hopper-v5"]) == 2
    assert capsys.readouterr().err == f"error: env_id=Hopper-v5: only trust=true may be given to {command}\n"


def test_one_of_two_places_that_is_repeated_does_not_allow_the_other(run: Path) -> None:
    stored(run, "env_kwargs={files: [/tmp/mine, /etc/passwd]}")
    with pytest.raises(InputError) as error:
        configuration_of(run, ["env_kwargs.files=/tmp/mine"])
    assert [problem.partition(" names ")[0] for problem in error.value.problems] == [
        f"{run}/config.yaml: env_kwargs.files=/etc/passwd"
    ]


# Policies -------------------------------------------------------------------------------------------------------------


def described(run: Path, **changes: Any) -> None:
    path = run / "policy/policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_environment_that_a_policy_names_is_not_imported(
    run: Path, trap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described(run, env_id=f"{TRAP}:Trap-v0")
    command = ["evaluate", str(run), "--episodes", "1"]
    assert program(command) == 2
    assert capsys.readouterr().err == (
        f"error: {run}/policy/policy.json: env_id={TRAP}:Trap-v0 names Python code, which a file must not run by itself: read "
        "that code, then add trust=true\n"
    )
    assert not trap.exists()
    assert program([*command, "env_id=Pendulum-v1"]) == 0
    assert not trap.exists()
    assert program([*command, "trust=true"]) == 2  # it registers no such environment
    assert trap.exists()


def test_a_file_that_a_policy_hands_to_an_environment_is_not_read(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described(run, env_id="Hopper-v5", env_kwargs={"xml_file": "/etc/passwd"})
    assert program(["evaluate", str(run)]) == 2
    assert "env_kwargs.xml_file=/etc/passwd names a file" in capsys.readouterr().err


def test_the_class_of_an_actor_is_not_imported(run: Path, trap: Path) -> None:
    path = run / "policy/policy.json"
    actor = {**json.loads(path.read_text())["actor"], "class": f"{TRAP}:Trap"}
    described(run, actor=actor, format=2)
    with pytest.raises(InputError, match="give its class"):
        Policy.load(run)
    assert not trap.exists()


# Logs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_a_file_that_a_log_hands_to_an_environment_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{kind}"
    arrays = {"observations": np.zeros((9, 11)), "actions": np.zeros((9, 3)), "rewards": np.zeros(9)}
    arrays["terminals"] = np.zeros(9)
    names = {"env_id": "Hopper-v5", "env_kwargs": '{"xml_file": "/etc/passwd"}'}
    if kind == "npz":
        np.savez(path, allow_pickle=False, **arrays, **{key: np.array(text) for key, text in names.items()})
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
            file.attrs.update(names)
    with pytest.raises(InputError) as error:
        open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={})
    assert error.value.problems == [
        f"{path} names Hopper-v5 with env_kwargs.xml_file=/etc/passwd, a file, an address or Python code, which a file must not "
        """choose by itself: if you trust it, give 'env_kwargs={"xml_file": "/etc/passwd"}', else env_id=none"""
    ]
    assert compose(['env_kwargs={"xml_file": "/etc/passwd"}']).env_kwargs == {"xml_file": "/etc/passwd"}
    assert open_dataset(name=str(path), data=DataConfig(), env_id="none", env_kwargs={}).env_id is None
