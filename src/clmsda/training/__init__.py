"""Training: configuration, samples, the loop, checkpoints, ranks."""

from clmsda.training.config import ConfigError, TrainingConfig, read_config
from clmsda.training.loop import is_finished, train

__all__ = ["ConfigError", "TrainingConfig", "is_finished", "read_config", "train"]
