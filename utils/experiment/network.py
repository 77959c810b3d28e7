"""A backbone on its device, and shorter versions with fewer layers."""

from __future__ import annotations

from padim.backbones import Backbone
from utils.experiment.configuration import Layers


class Network:
    """A backbone, and shorter versions for models that need fewer layers.

    Args:
        whole: the backbone on its device. Images go through it once for all models.
    """

    def __init__(self, whole: Backbone) -> None:
        self.whole = whole
        self._tapped = {whole.layers: whole}

    def tapped(self, layers: Layers | None) -> Backbone:
        """The backbone that ends at ``layers``; the whole one for None."""
        layers = layers or self.whole.layers
        if layers not in self._tapped:
            whole = self.whole
            backbone = Backbone(whole.name, whole.weights, layers, precision=whole.precision)
            self._tapped[layers] = backbone.to(next(whole.parameters()).device)
        return self._tapped[layers]

    def indices(self, layers: Layers | None) -> list[int]:
        """The positions of ``layers`` among the feature maps of the whole backbone."""
        return [self.whole.layers.index(layer) for layer in layers or self.whole.layers]
