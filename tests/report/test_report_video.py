"""The video of a run on its page: put into it, and only what is a small WebP."""

import base64
import os
from pathlib import Path

import pytest
from PIL import Image
from well_formed import Page

from mopo_pl.report import command, figures, video
from mopo_pl.report.run.overview import RunOverview, gather
from mopo_pl.report.run.run_files import Trust
from mopo_pl.report.video import video_of


@pytest.fixture(scope="module")
def overview(whole: Path) -> RunOverview:
    """Without figures, which take most of the time."""
    found = gather(whole, dataset=None, trust=Trust(frozenset()))
    return RunOverview(**{**vars(found), "curves": {}, "model": None, "policy": None})


def film(path: Path) -> bytes:
    images = [Image.new("RGB", (24, 16), colour) for colour in ("red", "blue")]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, loop=0)
    return path.read_bytes()


def written(folder: Path, overview: RunOverview, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(command, "gather", lambda *given, **more: overview)
    (folder / "config.yaml").write_text("seed: 0\n")
    command.report(folder, [], as_json=False)
    return (folder / "report.html").read_text()


def test_the_report_holds_the_video_itself(
    overview: RunOverview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = film(tmp_path / "video.webp")
    page = Page(written(tmp_path, overview, monkeypatch))
    (shown,) = [link for link in page.links if link.startswith("data:")]
    head, _, encoded = shown.partition(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(encoded) == content
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert "script" not in page.tags
    assert "Video of the policy" in page.texts


def test_without_a_video_there_is_no_place_for_one(
    overview: RunOverview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written(tmp_path, overview, monkeypatch)
    assert "Video of the policy" not in text
    assert "<img" not in text


def test_a_large_file_and_one_that_is_no_webp_are_left_out_with_the_reason(
    overview: RunOverview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "LARGEST", 2000)
    file = tmp_path / "video.webp"
    file.write_bytes(b"RIFF\0\0\0\0WEBP" + bytes(1989))
    assert "<img" not in written(tmp_path, overview, monkeypatch)
    assert "video.webp has 0.0 MB, more than 0 MB: it is not shown here." in (tmp_path / "report.html").read_text()
    file.write_bytes(b"RIFF\0\0\0\0WEBP" + bytes(1988))
    assert "<img" in written(tmp_path, overview, monkeypatch)
    file.write_bytes(b"<svg onload='alert(1)'>")
    assert "video.webp is no WebP image: it is not shown here." in written(tmp_path, overview, monkeypatch)
    assert "<svg onload" not in (tmp_path / "report.html").read_text()


def test_a_pipe_of_that_name_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video.webp")
    assert video_of(tmp_path) is None


def test_of_two_lines_that_coincide_the_lower_one_is_wider() -> None:
    def widths(second: list[tuple[int, float | None]]) -> list[float]:
        lines: dict[str, list[tuple[int, float | None]]] = {"a": [(1, 0.0), (2, 100.0), (3, None)], "b": second}
        return [line.get_linewidth() for line in figures.curve.figure(lines, label="Q").axes[0].lines]

    assert widths([(1, 0.9), (2, 99.1)]) == [3.0, 1.5]
    assert widths([(1, 1.1), (2, 100.0)]) == [1.5, 1.5]
    assert widths([(7, 0.0)]) == [1.5, 1.5]
