"""embed: features of a distilled set, one shard: the same work as for real images."""

from limbeck.stages.features import run

__all__ = ["run"]
