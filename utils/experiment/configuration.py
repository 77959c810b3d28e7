"""Configurations, the models that they need, and the protocol that they share.

Imports no PyTorch, so that the options can be checked against it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from padim.config import PaDiMConfig

Layers = tuple[str, ...]
_PAPER = PaDiMConfig()


@dataclass(frozen=True)
class ModelSpec:
    """One model of a configuration.

    Attributes:
        layers: its feature layers; None for those of the network as loaded.
        reduction: as in ``PaDiMConfig``, and so are the next two.
        embedding_dim: channels kept; None with reduction ``none``.
        seed: of the channels drawn.
    """

    layers: Layers | None = None
    reduction: str = "none"
    embedding_dim: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Protocol:
    """What all configurations of a data set share. Each attribute is as in ``PaDiMConfig``."""

    resize: int = _PAPER.resize
    crop: int = _PAPER.crop
    epsilon: float = _PAPER.epsilon
    sigma: float = _PAPER.sigma
    bits: int = _PAPER.bits

    def config_of(self, model: ModelSpec) -> PaDiMConfig:
        """The configuration of a model under this protocol."""
        return PaDiMConfig(
            reduction=model.reduction,
            embedding_dim=model.embedding_dim,
            seed=model.seed,
            resize=self.resize,
            crop=self.crop,
            epsilon=self.epsilon,
            sigma=self.sigma,
            bits=self.bits,
        )


@dataclass(frozen=True)
class Configuration:
    """A way to run PaDiM.

    Attributes:
        name: the key of its published numbers.
        backbone: its name in ``padim.Backbone``.
        reduction: as in ``PaDiMConfig``, and so is ``embedding_dim``.
        embedding_dim: channels kept; None with reduction ``none``.
        layer_sets: a model for each; their anomaly maps are added. None stands for the layers of
            the network as loaded.
        seed: of the channels drawn.
    """

    name: str
    backbone: str
    reduction: str = "none"
    embedding_dim: int | None = None
    layer_sets: tuple[Layers | None, ...] = (None,)
    seed: int = 0

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models whose maps are added."""
        return tuple(
            ModelSpec(layers, self.reduction, self.embedding_dim, self.seed)
            for layers in self.layer_sets
        )


@dataclass(frozen=True)
class Job:
    """Configurations of one backbone that share models. They are finished together.

    Attributes:
        name: of the job, the name of its record.
        configurations: at least one.
    """

    name: str
    configurations: tuple[Configuration, ...]

    @property
    def backbone(self) -> str:
        """The backbone of all its configurations."""
        return self.configurations[0].backbone

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models of all its configurations, each once."""
        every = (model for one in self.configurations for model in one.models)
        return tuple(dict.fromkeys(every))
