"""Gymnasium environments of this package. Importing the module registers them."""

import gymnasium

if "mopo_pl/DMSD-v0" not in gymnasium.registry:
    gymnasium.register(
        "mopo_pl/DMSD-v0", entry_point="mopo_pl.environments.dmsd:DMSD", max_episode_steps=100, order_enforce=True
    )
