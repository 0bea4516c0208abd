"""The smallest training in an environment."""

SAC = (
    "--start-steps 250 sac.hidden_sizes=[16] sac.batch_size=32 sac.updates_per_epoch=50 evaluation.episodes=1 "
    "evaluation.every_n_epochs=1 trainer.accelerator=cpu trainer.enable_progress_bar=false compile=false threads=1"
)
"""250 random steps, then epochs of 50 updates in blocks of 10."""
