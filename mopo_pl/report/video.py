"""Video of a run's policy: a file of the run folder that is embedded in the page."""

import base64
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.storage.run_records import VIDEO

LARGEST = 4_000_000
"""Largest size of a video that is embedded in the page [bytes]; base64 makes it a third larger there."""


@dataclass(frozen=True)
class Video:
    """Video as the page shows it."""

    uri: str | None
    """The file as a `data:` URI; None where it cannot be shown."""
    text: str
    """Caption of the video, or the reason why it is not shown."""


def video_of(folder: Path) -> Video | None:
    """Return the video in a run folder; None where there is none.

    The folder may come from someone else: only a WebP file of at most 4 MB is embedded in the page.
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
