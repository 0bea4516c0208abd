"""The report's page in a browser: do its figures appear, is the console silent, is nothing asked of the network, does it fit a phone?

    python benchmarks/pages.py runs/latest --folder pages

opens `report.html` of each run in Chromium, at 1280 and at 390 pixels, without a network, prints what is wrong, and keeps a picture of
each. The exit code is 1 where something is wrong. It needs Chromium or Chrome, which is not a dependency of the project.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"desktop": 1280, "phone": 390}
"""Of the page [pixels]."""
HEIGHT = 1000
"""Of the window while the page is measured [pixels]."""
TALLEST = 16_000
"""Most that a picture shows [pixels]."""
LEAST = 60
"""Least width and height of a figure that can be read [pixels]."""
NOWHERE = "127.0.0.1:9"
"""A proxy that nobody runs: what is asked of the network fails."""
PATIENCE = 120.0
"""Time of a call of the browser [s]."""

FRAME = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" src="{source}" style="width:{width}px;height:{height}px;border:0"></iframe><pre id="found"></pre><script>
document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument;
  const figures = [...page.querySelectorAll("figure")].map(figure => {{
    const box = figure.querySelector("svg").getBoundingClientRect();
    return {{title: figure.querySelector("h3").textContent, how: figure.querySelector("figcaption").textContent,
            width: box.width, height: box.height, shapes: figure.querySelectorAll("svg path").length}};
  }});
  const images = [...page.images].map(image => [image.alt, image.naturalWidth]);
  const root = page.documentElement;
  document.getElementById("found").textContent = JSON.stringify(
    {{figures, images, wide: root.scrollWidth, high: root.scrollHeight}});
}};
</script>"""
"""A frame of the width of the page, since no window is as narrow as a phone; it looks at the page and writes down what it found."""


def browser() -> str:
    """The first browser that is installed; ends the program where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed: on Debian, apt-get install chromium")
    return found


def call(program: str, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a file in a browser of its own, without a network."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
            ),
            *("--allow-file-access-from-files", "--disable-background-networking", "--disable-component-update"),
            *("--no-first-run", "--disable-sync", f"--proxy-server={NOWHERE}", "--enable-logging=stderr"),
            *(*arguments, page.resolve().as_uri()),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def seen(program: str, report: Path, name: str, folder: Path) -> list[str]:
    """What is wrong with a page at one width; its picture is written into `folder`."""
    width = WIDTHS[name]
    frame, picture = folder / "frame.html", folder / f"{report.resolve().parent.name}.{name}.png"
    source = report.resolve().as_uri()
    frame.write_text(FRAME.format(source=html.escape(source), width=width, height=HEIGHT))
    network = folder / "network.json"
    opened = call(program, frame, "--dump-dom", "--virtual-time-budget=10000", f"--log-net-log={network}")
    found = re.search(r'<pre id="found">(.+?)</pre>', opened.stdout, re.DOTALL)
    if found is None:
        return [f"it did not open: {opened.stderr.strip()[-300:]}"]
    told = json.loads(html.unescape(found[1]))
    height = min(told["high"], TALLEST)
    frame.write_text(FRAME.format(source=html.escape(source), width=width, height=height))
    call(program, frame, f"--screenshot={picture}", f"--window-size={max(width, 500)},{height}")
    frame.unlink()
    wrong = problems(told, opened.stderr, width) + [f"it asks for {url}" for url in asked(network.read_text())]
    network.unlink()
    return wrong


def asked(network: str) -> list[str]:
    """Addresses that a page asked for, from the browser's record of its network; the browser's own requests have no initiator.

    >>> own = {"params": {"url": "https://update.example/", "initiator": "not an origin"}}
    >>> others = {"params": {"url": "http://example.com/a.png", "initiator": "null"}}
    >>> asked(json.dumps({"constants": {}, "events": [own, others, {"type": 3}]}))
    ['http://example.com/a.png']
    """
    try:
        events = json.loads(network)["events"]
    except ValueError:  # a browser that was quick to end left it open
        events = json.loads(network.rstrip().rstrip(",") + "]}")["events"]
    found = [event.get("params") or {} for event in events]
    urls = {
        each["url"]: None
        for each in found
        if each.get("initiator", "not an origin") != "not an origin" and "url" in each
    }
    return [url for url in urls if url.startswith("http")]


def problems(told: dict[str, Any], log: str, width: int) -> list[str]:
    """What is wrong, from what the frame found and the browser's log.

    >>> figure = {"title": "Return", "how": "A point is", "width": 358.0, "height": 220.0, "shapes": 12}
    >>> problems({"figures": [figure], "images": [], "wide": 390, "high": 900}, "", 390)
    []
    >>> broken = {"figures": [{**figure, "height": 0.0}], "images": [["", 0]], "wide": 700, "high": 900}
    >>> for problem in problems(broken, '[1:1:INFO:CONSOLE(3)] "Uncaught TypeError", source: file:///a (3)', 390):
    ...     print(problem)
    console: "Uncaught TypeError", source: file:///a (3)
    the figure 'Return' is 358 x 0 pixels
    the image '' does not appear
    the page is 700 pixels wide, its window 390
    """
    said = [f"console: {line}" for line in re.findall(r":CONSOLE[:(]\d+\)?\] (.*)", log)]
    if not told["figures"]:
        said.append("there are no figures")
    for figure in told["figures"]:
        if min(figure["width"], figure["height"]) < LEAST:
            said.append(f"the figure '{figure['title']}' is {figure['width']:.0f} x {figure['height']:.0f} pixels")
        if not figure["title"] or not figure["how"] or not figure["shapes"]:
            said.append(f"the figure '{figure['title']}' has no title, no caption or no lines")
    said += [f"the image '{alt}' does not appear" for alt, natural in told["images"] if not natural]
    if told["wide"] > width:
        said.append(f"the page is {told['wide']} pixels wide, its window {width}")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders with a report.html")
    parser.add_argument(
        "--folder", type=Path, default=Path("pages"), help="where the pictures go (default: %(default)s)"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    program, wrong = browser(), 0
    for run in options.runs:
        for name in WIDTHS:
            found = seen(program, run / "report.html", name, options.folder)
            wrong += len(found)
            print(f"{run}  {name}: {'; '.join(found) or 'OK'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
