"""Section of the report about training: the curves of a run."""

from collections.abc import Iterator
from typing import Any

from mopo_pl.report import figures
from mopo_pl.report.run.overview import RunOverview
from mopo_pl.report.run.sections.layout import Figure, Section


def training_section(overview: RunOverview) -> Section | None:
    """Return the section with the curves of the metrics rows; None where there are none yet."""
    drawn = list(_curves(overview))
    return Section("Training", figures=drawn) if drawn else None


def _curves(overview: RunOverview) -> Iterator[Figure]:
    curves = overview.curves

    def of(**names: str) -> dict[str, Any]:
        found = {title.replace("_", " "): curves[name] for title, name in names.items() if name in curves}
        return {title: points for title, points in found.items() if any(value is not None for _, value in points)}

    if scored := of(policy="evaluation/return"):
        levels = {"mean of the log": overview.log.numbers["mean_return"]}
        bands = {"policy": curves.get("evaluation/return_std", [])}
        yield Figure(
            "return",
            "Return while it learned",
            figures.curve("return", scored, label="return", levels=levels, bands=bands),
            "A point is the mean over the episodes of one evaluation, the band one standard deviation between episodes; a policy "
            "worth having stays above the dashed line.",
        )
    if values := of(critic_1="policy/q1", critic_2="policy/q2"):
        yield Figure(
            "value",
            "Value of the critics",
            figures.curve("value", values, label="mean Q of the batches"),
            "It should level off; values above the best return that the log's rewards allow, or that grow without end, are wrong.",
        )
    if losses := of(critics="policy/critic_loss"):
        yield Figure(
            "critic_loss",
            "Loss of the critics",
            figures.curve("critic_loss", losses, label="squared error", logarithmic=True),
            "It may rise while returns change; a rise that goes on to the end means that the critics diverge.",
        )
    if entropy := of(entropy="policy/entropy"):
        target = overview.config["sac"]["target_entropy"]
        target = -float(len(overview.log.numbers["actions"])) if target is None else target
        yield Figure(
            "entropy",
            "Entropy of the policy",
            figures.curve("entropy", entropy, label="entropy [nats]", levels={"target": target}),
            "It should end near the dashed line; far above it, the reward hardly matters to the policy.",
        )
    if cloning := of(policy="policy/cloning_error"):
        yield Figure(
            "cloning",
            "Error of the cloned actions",
            figures.curve("cloning", cloning, label="squared error", logarithmic=True),
            "It falls as far as the log's actions follow from its states.",
        )
    if imagined := of(reward="rollout/reward", penalty="rollout/penalty"):
        yield Figure(
            "imagined",
            "Imagined reward and penalty",
            figures.curve("imagined", imagined, label="mean of a step"),
            "Where the penalty is as large as the reward, the policy is taught to stay near the log more than to earn; where it is "
            "near 0, nothing keeps it there.",
        )
    members = {f"member_{i}": f"dynamics/holdout_mse_{i}" for i in range(figures.MOST_LINES)}
    if errors := of(**members):
        yield Figure(
            "ensemble",
            "Held-out error of the ensemble",
            figures.curve("ensemble", errors, label="squared error, standardised", logarithmic=True),
            "By the ensemble's own updates, the first five members; it should have stopped falling by the end.",
        )
