"""`python -m mopo_pl video`: a run's policy in its environment, as an animated WebP."""

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
"""Most images for a second of the environment."""
MOST = 300
"""Most images of a video; where there are more, every second one is left out, until they fit."""
MOST_EPISODES = 20
QUALITY = 60
"""Of the WebP's lossy images, from 0 to 100."""
HELD = 1000
"""Time for which the last state of an episode stands [ms]."""


@dataclass
class Film:
    """The images of a video: every k-th state of each episode, and its last; k doubles where they become too many."""

    every: int
    """k [steps]."""
    rate: float
    """Steps of a second of the environment."""
    most: int = MOST
    frames: list[tuple[Seen, Image.Image]] = field(default_factory=list)

    def wants(self, step: int) -> bool:
        """Whether a state after so many steps belongs to it."""
        return step % self.every == 0

    def add(self, seen: Seen) -> None:
        """Take an image, downsized."""
        image = Image.fromarray(seen.image)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        self.frames.append((seen, image))
        while len(self.frames) > self.most:
            self.every *= 2
            self.frames = [each for each in self.frames if each[0].ended or self.wants(each[0].step)]

    def durations(self) -> list[int]:
        """How long each image stands [ms]: until the next one in the environment's own time; the last of an episode `HELD`."""
        until = [*(seen for seen, _ in self.frames[1:]), None]
        return [
            HELD if after is None or seen.ended else max(1, round(1000 * (after.step - seen.step) / self.rate))
            for (seen, _), after in zip(self.frames, until, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Write it as an animated WebP, which repeats for ever, atomically."""
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
        folder: Of the run.
        episodes: One after another in the video; each is that of `evaluate` with the same seed.
        seed: Of the first episode.
        out: What is written; None: `video.webp` in the run folder, which the report shows.
        actor: Class of the policy network, if it is the user's own.
        env_id: As `evaluate_run` takes it.
        env_kwargs: Likewise.
        trust: Likewise.

    Raises InputError as `fitting_environment` does, and where the environment cannot be drawn.

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
    """Of a step.

    >>> [_nth(number) for number in (1, 2, 3, 4, 12)]
    ['single', '2nd', '3rd', '4th', '12th']
    """
    ends = {2: "nd", 3: "rd"}
    return "single" if number == 1 else f"{number}{ends.get(number, 'th')}"
