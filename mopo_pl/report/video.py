"""The video of a run's policy, as the page shows it: a file of the run folder, put into the page."""

import base64
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.storage.run_records import VIDEO

LARGEST = 4_000_000
"""Size up to which a video is put into the page [bytes]; there it takes a third more."""


@dataclass(frozen=True)
class Video:
    """What the page shows of it."""

    uri: str | None
    """The file as a `data:` URI; None where it cannot be shown."""
    text: str
    """What it is, or why it is not shown."""


def video_of(folder: Path) -> Video | None:
    """The video in a run folder; None where there is none.

    The folder may be someone else's: what is no WebP of at most 4 MB is not put into the page.
    """
    path = folder / VIDEO
    if not path.is_file():
        return None
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return Video(
                None, f"{VIDEO} has {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB: it is not shown here."
            )
        content = path.read_bytes()
    except OSError as error:
        return Video(None, f"{VIDEO} cannot be read ({error.strerror}): it is not shown here.")
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return Video(None, f"{VIDEO} is no WebP image: it is not shown here.")
    encoded = base64.b64encode(content).decode("ascii")
    return Video(
        f"data:image/webp;base64,{encoded}",
        "The policy in its environment, with its mean actions, at the environment's own speed; made by python -m mopo_pl video.",
    )
