"""Gymnasium environments of this package. Importing the module registers them."""

import gymnasium

ENVIRONMENTS = {
    "mopo_pl/DMSD-v0": ("mopo_pl.environments.dmsd:DMSD", 100),
    "mopo_pl/SafetyHalfCheetah-v0": ("mopo_pl.environments.safety_half_cheetah:SafetyHalfCheetah", 1000),
    "mopo_pl/HalfCheetahJump-v0": ("mopo_pl.environments.out_of_distribution:HalfCheetahJump", 1000),
    "mopo_pl/AntAngle-v0": ("mopo_pl.environments.out_of_distribution:AntAngle", 1000),
}
"""Class and time limit [steps] of each id."""

for env_id, (entry_point, steps) in ENVIRONMENTS.items():
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=entry_point, max_episode_steps=steps, order_enforce=True)
