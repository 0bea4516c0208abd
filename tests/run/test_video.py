"""`python -m mopo_pl video RUN`: the images that are kept, the file that is written, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mopo_pl.__main__ import main
from mopo_pl.environments.rendering import Seen
from mopo_pl.run.finished.video import HELD, SIDE, Film


def seen(episode: int, step: int, ended: bool) -> Seen:
    shade = np.full((30, 60, 3), (17 * step + 90 * episode) % 256, np.uint8)
    shade[:, step % 60] = 255
    return Seen(episode, step, shade, float(step), ended)


def filmed(lengths: list[int], *, every: int, rate: float, most: int) -> Film:
    film = Film(every=every, rate=rate, most=most)
    for episode, length in enumerate(lengths):
        for step in range(length):
            if film.wants(step):
                film.add(seen(episode, step, False))
        film.add(seen(episode, length, True))
    return film


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
    st.integers(1, 3),
    st.floats(5, 200),
    st.integers(10, 60),
)
def test_a_film_has_few_images_keeps_every_end_and_takes_the_environments_time(
    lengths: list[int], every: int, rate: float, most: int
) -> None:
    film = filmed(lengths, every=every, rate=rate, most=most)
    kept = [each for each, _ in film.frames]
    assert len(kept) <= most
    assert [(each.episode, each.step) for each in kept if each.ended] == list(enumerate(lengths))
    # Evenly: no state that belongs to it is missing, and none is there that does not.
    expected = [(i, step) for i, length in enumerate(lengths) for step in range(0, length, film.every)]
    assert [(each.episode, each.step) for each in kept if not each.ended] == expected
    time = 1000 * sum(lengths) / rate + HELD * len(lengths)
    assert sum(film.durations()) == pytest.approx(time, abs=0.51 * len(kept) + 1)
    doubled = film.every // every
    assert film.every == every * doubled
    assert doubled & (doubled - 1) == 0
    if doubled > 1:  # no more was left out than was needed
        half = film.every // 2
        assert sum(len(range(0, length, half)) + 1 for length in lengths) > most


def test_the_file_holds_the_images_downsized_at_their_times_and_repeats(tmp_path: Path) -> None:
    film = Film(every=2, rate=10.0)
    for step in (0, 2, 4):
        shade = np.full((300, 600, 3), 60 * step, np.uint8)
        film.add(Seen(0, step, shade, 0.0, step == 4))
    film.save(tmp_path / "video.webp")
    with Image.open(tmp_path / "video.webp") as image:
        assert (image.format, image.size, image.n_frames, image.info["loop"]) == ("WEBP", (SIDE, SIDE // 2), 3, 0)  # type: ignore[attr-defined]
        shown = []
        for number in range(3):
            image.seek(number)
            image.load()
            shown.append((image.info["duration"], image.convert("RGB").getpixel((9, 9))))
    assert [duration for duration, _ in shown] == [200, 200, HELD]
    for (_, pixel), shade in zip(shown, (0, 120, 240), strict=True):
        assert pixel == pytest.approx((shade,) * 3, abs=6)


def test_the_video_is_of_the_episodes_that_are_evaluated(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "policy", run / "policy")
    assert main(["evaluate", str(run), "--episodes", "1", "--seed", "5"]) == 0
    (scored,) = re.findall(r"^return +(\S+) ", capsys.readouterr().out, re.MULTILINE)
    assert main(["video", str(run), "--seed", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = (run / "video.webp").stat().st_size / 1000
    assert lines == [
        f"episode  0: return {scored} over 200 steps, from seed 5",
        f"video    {run / 'video.webp'}  (101 images of 256 x 256, every 2nd step, 8 s, {size:.0f} kB)",
        f"report   python -m mopo_pl report {run} shows it",
    ]
    with Image.open(run / "video.webp") as image:
        # The rod stands elsewhere at the end: the images are not one.
        first, last = np.asarray(image.convert("L"), float), None
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        last = np.asarray(image.convert("L"), float)
    assert np.abs(first - last).max() > 50


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--episodes", "0"], "--episodes 0 must lie between 1 and 20"),
        (["--episodes", "21"], "--episodes 21 must lie between 1 and 20"),
        (["--seed", "-1"], "--seed -1 must lie in [0, 2**31)"),
        (["--out", "a.gif"], "--out a.gif must be a file that ends in .webp"),
        (["penalty.coef=2"], "penalty.coef: only env_id and env_kwargs may be given to video"),
    ],
)
def test_what_is_no_video_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(["video", str(finished), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {problem}\n"
    assert not (finished / "video.webp").exists()


def test_an_environment_without_images_or_none_at_all_is_one_sentence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "policy", run / "policy")
    description = json.loads((run / "policy/policy.json").read_text())
    for env_id, problem in (
        (None, f"{run} was trained without env_id: there is no environment to evaluate in; name one, "),
        ("mopo_pl/DMSD-v0", "env_id=mopo_pl/DMSD-v0 has observations of shape [6], the policy of "),
    ):
        (run / "policy/policy.json").write_text(json.dumps({**description, "env_id": env_id}))
        assert main(["video", str(run)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {problem}")
