"""`python -m mopo_pl push`, and `Policy.load` of what it leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import constants

from mopo_pl import __main__ as program
from mopo_pl.errors import InputError
from mopo_pl.export.card import NOT_FOR, as_markdown, not_for
from mopo_pl.policy import Policy

Printed = pytest.CaptureFixture[str]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def card_of(run: Path, *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    assert program.main(["push", str(run), *arguments]) == code
    return json.loads((run / "policy" / "card.json").read_text()), (run / "policy" / "README.md").read_text()


def test_a_card_says_what_the_policy_was_trained_on_and_what_it_is_not_for(run: Path) -> None:
    card, text = card_of(run, "--licence", "MIT")
    result = json.loads((run / "result.json").read_text())
    log = card["log"]
    assert (log["name"], log["hash"], log["rows"], log["episodes"]) == ("pendulum", result["dataset"]["hash"], 400, 2)
    assert log["mean_return"] == pytest.approx(result["behaviour_return"])
    assert (card["result"]["updates"], card["result"]["final_return"]) == (60, result["final_return"])
    assert card["actions"]["bound_high"] == [2.0]
    assert card["not_for"][-3:] == list(NOT_FOR)
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "mit"
    assert f"SHA-256 `{log['hash']}`, environment `Pendulum-v1`" in body
    assert "400 transitions in 2 episodes" in body
    assert f"Return in the environment: {result['final_return']:.4g} ± " in body
    assert all(f"- {words}\n" in body for words in card["not_for"])
    low, high = card["observations"]["low"][2], card["observations"]["high"][2]
    assert f"| 2 | not stated | {low:.4g} to {high:.4g} |" in body
    assert str(run.parent) not in text + json.dumps(card)  # no path of this machine


def test_health_and_estimates_are_the_evidence(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    finding = {"level": "STOP", "name": "q_beyond", "text": "Q is 1e9", "fix": ""}
    result["health"] = {"level": "STOP", "findings": [finding]}
    (run / "result.json").write_text(json.dumps(result))
    reason = {"name": "model return", "says": "do not deploy", "text": "1 to 2 in each elite"}
    verdict = {"says": "do not deploy", "certified": False, "sentence": "no certificate: 3 of 9", "reasons": [reason]}
    (run / "estimates.json").write_text(json.dumps({"verdict": verdict}))
    card, text = card_of(run)
    assert card["not_for"][:2] == [
        "Any use: the check of its training says STOP.",
        "Any use: the estimates of its return say not to deploy it.",
    ]
    assert "- STOP q_beyond: Q is 1e9\n" in text
    assert "- Estimates: no certificate: 3 of 9.\n- model return: 1 to 2 in each elite\n" in text


def test_a_policy_that_was_never_scored_says_so(run: Path) -> None:
    card, _ = card_of(run)
    unscored = {**card, "result": {**card["result"], "final_return": None}}
    assert not_for(unscored)[0] == "Any use without a trial of its own: nothing says what it earns."
    assert "Return in the environment: not measured." in as_markdown(unscored)
    without_spread = {**card, "result": {**card["result"], "final_return_std": None}}
    assert "Return in the environment: not measured." in as_markdown(without_spread)
    for value in (float("nan"), float("inf")):
        lost = {**card, "result": {**card["result"], "final_return": value}}
        assert not_for(lost)[0] == "Any use: its return in the environment is no finite number."
    better = {**card, "log": {**card["log"], "mean_return": -1e9}}
    assert not_for(better) == list(NOT_FOR)


def test_a_log_that_changed_is_not_described(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    result["dataset"]["hash"] = "0" * 64
    (run / "result.json").write_text(json.dumps(result))
    card, text = card_of(run)
    assert card["log"]["rows"] == "unknown"
    assert "WARN not-checked: the log could not be checked for this card: its arrays are not those" in text


def test_a_log_that_cannot_be_opened_is_not_named_by_its_path(run: Path) -> None:
    gone = run.parent / "secret" / "log.csv"
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("source: collect:pendulum", f"source: {gone}"))
    assert str(gone) in (run / "config.yaml").read_text()
    card, text = card_of(run)
    assert "WARN not-checked: the log could not be checked for this card: it could not be opened" in text
    assert str(run.parent) not in text + json.dumps(card)


def test_a_run_that_is_not_finished_has_no_card(run: Path, capsys: Printed) -> None:
    (run / "result.json").unlink()
    assert program.main(["push", str(run)]) == 2
    assert "has no result.json: finish the run first" in capsys.readouterr().err


# The hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def test_what_is_left_ready_offline_is_read_back_by_its_name(run: Path, cache: Path, capsys: Printed) -> None:
    card, text = card_of(run, "--to", "hub:me/pendulum", code=1)
    assert "not uploaded (HF_HUB_OFFLINE is set): the folder is ready, hf upload me/pendulum" in capsys.readouterr().err
    assert card["address"] == "hub:me/pendulum"
    assert 'Policy.load("hub:me/pendulum")' in text
    stored = cache / "models--me--pendulum"
    shutil.copytree(run / "policy", stored / "snapshots" / COMMIT)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(COMMIT)
    states = np.zeros((4, 3), np.float32)
    assert np.array_equal(Policy.load("hub:me/pendulum")(states), Policy.load(run)(states))


def test_what_is_not_on_the_hub_is_said_in_one_sentence(cache: Path) -> None:
    with pytest.raises(
        InputError, match=r"hub:me/nothing cannot be downloaded \(.*\): is the name right, and are you online\?"
    ):
        Policy.load("hub:me/nothing")
    for wrong in ("hub:pendulum", "hub:a/b/c", "hub:/x", "hub:x/", "hub:a b/c", "hub:ü/x", "hub:a/\n"):
        with pytest.raises(InputError, match="is no place on the hub: write hub:OWNER/NAME"):
            Policy.load(wrong)


def test_a_push_uploads_the_policy_and_its_card_as_a_private_repository(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    calls: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, name: str, **how: Any) -> None:
            calls.append(("create", (name, how["private"])))

        def upload_folder(self, **how: Any) -> None:
            calls.append(("upload", (how["repo_id"], Path(how["folder_path"]), sorted(how["allow_patterns"]))))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    card_of(run, "--to", "hub:me/pendulum")
    files = ["README.md", "card.json", "policy.json", "policy.safetensors"]
    assert calls == [("create", ("me/pendulum", True)), ("upload", ("me/pendulum", run / "policy", files))]
    assert "pushed   hub:me/pendulum" in capsys.readouterr().out
    calls.clear()
    card_of(run, "--to", "hub:me/pendulum", "--public")
    assert calls[0] == ("create", ("me/pendulum", False))


def test_the_hubs_refusal_is_printed_and_the_folder_stays_ready(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    class Api:
        def create_repo(self, name: str, **how: Any) -> None:
            raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    card_of(run, "--to", "hub:me/pendulum", code=1)
    assert "not uploaded (OSError: 401 Unauthorized): the folder is ready" in capsys.readouterr().err
