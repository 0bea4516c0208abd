"""Reference returns, and the scores between them."""

import pytest

from mopo_pl.environments.scores import REFERENCES, normalised_score

# Printed in the papers (D4RL; NeoRL-2), copied a second time.
PUBLISHED = {
    "HalfCheetah-v5": (-280.178953, 12135.0),
    "Hopper-v5": (-20.272305, 3234.3),
    "Walker2d-v5": (1.629008, 4592.3),
    "Ant-v5": (-325.6, 3879.7),
    "AdroitHandPen-v1": (96.262799, 3076.8331017826877),
    "AdroitHandHammer-v1": (-274.856578, 12794.134825156867),
    "AdroitHandDoor-v1": (-56.512833, 2880.5693087298737),
    "AdroitHandRelocate-v1": (-6.425911, 4233.877797728884),
    "mopo_pl/DMSD-v0": (30.60, 849.51),
    "SafetyHalfCheetah-v0": (-283.0, 2507.0),
    "Simglucose-v0": (9.75, 475.0),
}


@pytest.mark.parametrize("env_id", list(PUBLISHED))
def test_the_published_references_are_scored_0_and_100(env_id: str) -> None:
    low, high = PUBLISHED[env_id]
    assert normalised_score(env_id, low) == 0
    assert normalised_score(env_id, high) == pytest.approx(100)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "hopper-v2", "Hopper-v10", "HOPPER-v4", "Hopper", "d4rl/Hopper-v0"])
def test_case_version_and_namespace_do_not_matter(env_id: str) -> None:
    assert normalised_score(env_id, (3234.3 - 20.272305) / 2) == pytest.approx(50)


@pytest.mark.parametrize("env_id", ["Humanoid-v5", "HopperJump-v0", "MyHopper-v5", "Hopper/Other-v0", ""])
def test_an_environment_without_references_has_no_score(env_id: str) -> None:
    assert normalised_score(env_id, 100.0) is None


def test_scores_go_on_beyond_the_references() -> None:
    assert normalised_score("Pendulum-v1", -150.0 + 1084.0) == pytest.approx(200)
    assert normalised_score("Pendulum-v1", -1234.0 - 1084.0) == pytest.approx(-100)


@pytest.mark.parametrize("family", list(REFERENCES))
def test_each_expert_is_better_than_its_random_policy(family: str) -> None:
    low, high = REFERENCES[family]
    assert low < high
