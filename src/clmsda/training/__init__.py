"""Training: configuration, samples, the loop, checkpoints, ranks."""

from clmsda.training.config import ConfigError, TrainingConfig, read_config
from clmsda.training.loop import train

__all__ = ["ConfigError", "TrainingConfig", "read_config", "train"]
