"""The command `python -m mopo_pl video`: write an animated WebP of a run's policy in its environment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mopo_pl.environments.rendering import Seen, choose_platform, refuse_blind, steps_per_second, watched
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.run.finished.evaluation import fitting_environment
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.run_records import VIDEO

SIDE = 256
"""Longest side of the images [pixels]."""
PER_SECOND = 12.5
"""Largest number of images per second of the environment's time."""
MOST = 300
"""Largest number of images of a video. If there are more, every second image is dropped until they fit."""
MOST_EPISODES = 20
QUALITY = 60
"""Quality of the WebP's lossy images, from 0 to 100."""
HELD = 1000
"""Time for which the last image of an episode is shown [ms]."""


@dataclass
class Film:
    """The images of a video: every k-th state of each episode, and its last. k doubles when there are more than `most` images."""

    every: int
    """k, the number of steps between two images [steps]."""
    rate: float
    """Steps per second of the environment's time."""
    most: int = MOST
    frames: list[tuple[Seen, Image.Image]] = field(default_factory=list)

    def wants(self, step: int) -> bool:
        """Return whether the state after `step` steps is in the video."""
        return step % self.every == 0

    def add(self, seen: Seen) -> None:
        """Add an image, scaled down to `SIDE` pixels. Drop images if there are too many."""
        image = Image.fromarray(seen.image)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        self.frames.append((seen, image))
        while len(self.frames) > self.most:
            self.every *= 2
            self.frames = [each for each in self.frames if each[0].ended or self.wants(each[0].step)]

    def durations(self) -> list[int]:
        """Return the time for which each image is shown [ms]: the environment's time until the next image, `HELD` for the last of an episode."""
        until = [*(seen for seen, _ in self.frames[1:]), None]
        return [
            HELD if after is None or seen.ended else max(1, round(1000 * (after.step - seen.step) / self.rate))
            for (seen, _), after in zip(self.frames, until, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Write the video atomically as an animated WebP that repeats for ever."""
        first, *rest = (image for _, image in self.frames)
        with atomic_write(path) as aside:
            first.save(
                aside,
                format="WEBP",
                save_all=True,
                append_images=rest,
                duration=self.durations(),
                loop=0,
                quality=QUALITY,
                method=4,
            )


def film_run(
    folder: Path,
    *,
    episodes: int,
    seed: int,
    out: Path | None,
    actor: Callable[..., TanhGaussianActor] | None,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Sequence[str]:
    """Write a video of deterministic episodes, and return lines about it.

    Args:
        folder: Folder of the run.
        episodes: Number of episodes, one after another in the video. Each equals the episode of `evaluate` with the same seed.
        seed: Seed of the first episode.
        out: File to write; None: `video.webp` in the run folder, which the report shows.
        actor: Class of the policy network, if it is a user's class.
        env_id: Environment, as in `evaluate_run`.
        env_kwargs: Arguments of the environment, as in `evaluate_run`.
        trust: Whether the environment is trusted, as in `evaluate_run`.

    Raises InputError as `fitting_environment` does, and if the environment cannot be rendered.

    """
    if not 1 <= episodes <= MOST_EPISODES:
        raise InputError(f"--episodes {episodes} must lie between 1 and {MOST_EPISODES}")
    if out is not None and out.suffix != ".webp":
        raise InputError(f"--out {out} must be a file that ends in .webp")
    policy = Policy.load(folder, actor=actor)
    env_id, env_kwargs, environment = fitting_environment(
        folder, policy, command="video", env_id=env_id, env_kwargs=env_kwargs, trust=trust
    )
    refuse_blind(env_id, environment.metadata)
    env_kwargs = {key: value for key, value in env_kwargs.items() if key != "render_mode"}
    choose_platform(env_id, env_kwargs)
    rate = steps_per_second(environment.metadata)
    film = Film(every=max(1, round(rate / PER_SECOND)), rate=rate)
    images = watched(policy, env_id=env_id, env_kwargs=env_kwargs, episodes=episodes, seed=seed, wanted=film.wants)
    lines = []
    for seen in images:
        film.add(seen)
        if seen.ended:
            lines.append(
                f"episode  {seen.episode}: return {seen.total:.1f} over {seen.step} steps, from seed {seed + seen.episode}"
            )
    path = folder / VIDEO if out is None else out.expanduser()
    film.save(path)
    width, height = film.frames[0][1].size
    size, taken = path.stat().st_size / 1000, sum(film.durations()) / 1000
    lines.append(
        f"video    {path}  ({len(film.frames)} images of {width} x {height}, every {_nth(film.every)} step, {taken:.0f} s, {size:.0f} kB)"
    )
    if out is None:
        lines.append(f"report   python -m mopo_pl report {folder} shows it")
    return lines


def _nth(number: int) -> str:
    """Return "single" for 1, else the ordinal number, as in "every 2nd step".

    >>> [_nth(number) for number in (1, 2, 3, 4, 12)]
    ['single', '2nd', '3rd', '4th', '12th']
    """
    ends = {2: "nd", 3: "rd"}
    return "single" if number == 1 else f"{number}{ends.get(number, 'th')}"
