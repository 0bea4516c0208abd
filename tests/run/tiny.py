"""The smallest run there is, of both stages."""

TINY = [
    *("dataset=pendulum", "data.collect_steps=400", "threads=1", "seeds=in_turn"),
    *("compile=false", "trainer.accelerator=cpu"),
    *("dynamics.max_epochs=2", "dynamics.hidden_sizes=[16,16]", "dynamics.weight_decay=[0,0,0]"),
    *(
        "dynamics.batch_size=64",
        "dynamics.updates_per_step=1",
        "sac.hidden_sizes=[16,16]",
        "sac.updates_per_epoch=20",
        "sac.updates_per_step=1",
        "trainer.max_epochs=2",
    ),
    *("rollout.starts=50", "evaluation.episodes=2", "evaluation.final_episodes=3", "logger=none", "estimate=false"),
    "report=false",
]
"""Five batches an epoch and two epochs of the ensemble, 20 updates an epoch, each a step, and two epochs of the policy."""
