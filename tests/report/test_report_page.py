"""The page: whole, alone, safe, and true to the evidence."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from well_formed import Page

from mopo_pl.report import figures
from mopo_pl.report.command import report
from mopo_pl.report.run.overview import RunOverview, gather, jsonable
from mopo_pl.report.run.page import no_verdict, render
from mopo_pl.report.run.run_files import Trust

NOTHING = Trust(frozenset())


@pytest.fixture(scope="module")
def text(whole: Path) -> str:
    """The page that the run has written at its end."""
    return (whole / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def evidence(whole: Path) -> RunOverview:
    return gather(whole, dataset=None, trust=NOTHING)


FIGURES = {
    *("return", "value", "critic_loss", "entropy", "imagined", "ensemble"),
    *("action0", "uncertainty", "states", "errors", "calibration", "ranking", "horizon"),
}


def test_the_page_is_well_formed_and_each_figure_is_there_with_its_title(page: Page, text: str) -> None:
    assert {name.removesuffix("-title") for name in page.ids if name.endswith("-title")} == FIGURES
    assert len(re.findall("<svg ", text)) == len(re.findall("<figcaption>", text)) == len(FIGURES)
    labelled = set(re.findall(r'aria-labelledby="([^"]+)"', text))
    assert labelled == {f"{name}-title" for name in FIGURES}
    assert len(page.ids) == len(set(page.ids))
    for figure in re.findall("<figure>(.*?)</figure>", text, re.DOTALL):
        assert re.search(r"<h3 id=\"[^\"]+-title\">[^<]+</h3>\s*<svg viewBox=\"0 0 [\d.]+ [\d.]+\" ", figure)
        assert re.search("<figcaption>[^<]{10,}</figcaption>", figure)


def test_a_page_without_a_verdict_says_why_and_how_to_get_one(evidence: RunOverview) -> None:
    scored = replace(evidence, verdict=None)
    assert "this one was scored. python -m mopo_pl estimate " in no_verdict(scored)
    assert "not estimated. python -m mopo_pl estimate " in no_verdict(replace(scored, result={"final_return": None}))
    assert "without an ensemble" in no_verdict(replace(scored, config={**scored.config, "algorithm": "bc"}))
    assert no_verdict(replace(scored, finished=False)) == ""
    assert no_verdict(replace(scored, config={**scored.config, "stage": "dynamics"})) == ""
    assert no_verdict(replace(scored, verdict={"says": "cannot tell"})) == ""
    assert "<h2>Verdict: none</h2>" in render(scored)


def test_nothing_is_loaded_and_no_script_runs(page: Page, text: str) -> None:
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert "http" not in text
    assert "@import" not in text
    # What is linked or filled with stands in the page.
    used = {*page.links, *re.findall(r"url\(([^)]*)\)", text)}
    assert used
    assert all(link.startswith("#") and link[1:] in page.ids for link in used)


def test_names_of_a_file_are_texts(page: Page, text: str, names: list[str]) -> None:
    assert "alert(1)" in text
    assert "<script" not in text
    assert names[0] in page.texts  # in a table, whole
    assert "$x^2$ & co" in page.svg_texts  # in a figure, and no formula
    assert [letters for letters in page.svg_texts if letters.startswith("<script>aler")]
    assert "<i>" not in text


def test_names_in_any_script_are_drawn_without_a_warning(evidence: RunOverview) -> None:
    assert evidence.model is not None
    step = evidence.model.one_step
    column = replace(step.columns[0], name="温度 \\frac <b>")
    svg = figures.column_errors("errors", replace(step, columns=[column]))
    assert "温度 \\frac &lt;b&gt;" in svg


def test_both_colour_schemes_and_phones_are_provided_for(text: str) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    names = set(re.findall(r"var\((--\w+)\)", text))
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert names <= set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))
    assert "prefers-color-scheme: dark" in text
    # matplotlib's stand-ins for the page's colours are gone, and no line is drawn in black.
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#0101\w\w|#000000|#ffffff", svgs)
    assert "currentColor" in svgs
    assert all(rows.count("<table") == 1 for rows in re.findall(r'<div class="scrolls".*?</div>', text, re.DOTALL))
    assert text.count("<table") == text.count('<div class="scrolls"')


def test_the_page_says_what_the_evidence_says(page: Page, evidence: RunOverview) -> None:
    result = evidence.result
    assert result is not None
    said = " ".join(page.texts)
    assert f"it returned {result['final_return']:.4g} ± {result['final_return_std']:.4g} over 2 episodes" in said
    assert evidence.model is not None
    for ranking in evidence.model.one_step.rankings:
        assert ranking.name in said
    assert "ensemble_std (this run)" in said
    assert "value_spread (λ_V)" in said
    (penalty,) = [each for each in evidence.model.one_step.rankings if each.name == "ensemble_std"]
    assert f"{penalty.spearman:.3g}" in page.texts
    assert f"{evidence.model.one_step.columns[1].rmse:.3g}" in page.texts
    assert evidence.policy is not None
    policy, there = evidence.policy, evidence.policy.uncertainty
    assert there is not None
    assert (
        f"On 400 states of the log, the policy's action differs from the logged action by {policy.distance:.3g} on average; the "
        f"log's mean action, taken in every state, would differ by {policy.spread:.3g}. Both are Euclidean distances"
        in said
    )
    assert f"u is on average {there.ratio:.2f} times as large for the policy's actions as for the logged ones" in said
    assert "dynamics.hidden_sizes" in page.texts
    assert "[16, 16]" in page.texts
    assert evidence.changed["rollout.horizon"] == "4"
    assert "Missing" not in said


def without_figures(evidence: RunOverview, **more: object) -> RunOverview:
    """They take most of the time."""
    return RunOverview(**{**vars(evidence), "curves": {}, "model": None, "policy": None, **more})


def test_what_other_parts_of_a_run_found_has_its_place(evidence: RunOverview) -> None:
    plain = render(without_figures(evidence, health=None))
    for place in ("health", "estimates"):
        assert f'id="{place}"' not in plain
    finding = {"level": "WARN", "name": "q-above-bound", "text": "Q is <b>12</b>", "fix": "raise penalty.coef"}
    told = {
        "health": {"level": "WARN", "findings": [finding]},
        "verdict": {
            "says": "do not deploy",
            "certified": True,
            "sentence": "the evidence says: do not deploy",
            "reasons": [{"name": "fqe", "says": "cannot tell", "text": "u & more"}],
        },
        "estimates": {"log": {"return": -104.629, "std": 34.3}, "model": {"policy": {"return": {"mean": -21.44}}}},
    }
    page = render(without_figures(evidence, **told))
    Page(page)
    assert "Q is &lt;b&gt;12&lt;/b&gt;; raise penalty.coef" in page
    assert "<h2>Verdict: do not deploy</h2>" in page
    uncertified = {**told, "verdict": {**told["verdict"], "certified": False}}
    assert "<h2>Verdict: no certificate</h2>" in render(without_figures(evidence, **uncertified))
    assert "<td>fqe</td><td>cannot tell</td><td>u &amp; more</td>" in page
    assert "<td>the log, from the same starts</td><td>-104.6</td><td>± 34.3</td>" in page
    assert "<td>the policy, in the model</td><td>-21.44</td><td>± –</td>" in page
    unscored = render(without_figures(evidence, **told, result={**(evidence.result or {}), "final_return": None}))
    assert "In the learned model it returns -21.44, where the log returned -104.6 from the same starts." in unscored
    assert (
        page.index('id="verdict"')
        < page.index('id="health"')
        < page.index('id="estimates"')
        < page.index("The log</h2>")
    )


def test_findings_of_the_log_stand_with_what_to_do(evidence: RunOverview) -> None:
    found = {
        "level": "WARN",
        "name": "columns-stuck",
        "text": "<u>speed</u> stands still",
        "fix": "leave those rows out",
    }
    log = type(evidence.log)(**{**vars(evidence.log), "findings": [found]})
    page = render(without_figures(evidence, log=log))
    assert "<td>&lt;u&gt;speed&lt;/u&gt; stands still</td><td>leave those rows out</td>" in page


def test_an_unfinished_run_says_so(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "policy")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "policy", "upd')
    verdict = {"says": "cannot tell", "certified": False, "sentence": "cannot tell", "reasons": []}
    (folder / "estimates.json").write_text(json.dumps({"verdict": verdict, "fqe": {"mean": 1.5}}))
    found = gather(folder, dataset=None, trust=NOTHING)
    assert not found.finished
    assert (found.verdict, found.estimates) == (verdict, {"fqe": {"mean": 1.5}})
    assert (found.updates, found.planned_updates) == (20, 20)
    assert found.policy is None
    assert found.model is not None
    assert found.notes == ["there is no exported policy yet"]
    page = " ".join(Page(render(without_figures(found))).texts)
    assert "This run is not finished: 20 of 20 updates of the policy are made." in page
    assert "Missing: there is no exported policy yet." in page


def test_json_is_the_same_evidence_and_has_numbers_alone(whole: Path, evidence: RunOverview) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    told = json.loads(report(whole, [], as_json=True), parse_constant=refuse)
    expected = json.loads(json.dumps(jsonable(evidence)))
    for each in (told, expected):
        del each["seconds"]["report"]
    assert told == expected
    assert told["curves"]["policy/q1"][0][0] == 10
