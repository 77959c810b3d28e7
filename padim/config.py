"""The options of a model: their names, defaults and ranges. Imports no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from padim.errors import ModelError, unknown_name

REDUCTIONS = ("random", "semi_orthogonal", "pca", "none")
LEARNED = ("pca",)  # reductions learned from the training images; the others are drawn or fixed
PRECISIONS = ("float32", "bfloat16")  # of the network's products; sums are always float32
TITLES: Mapping[str, str] = {  # names of the backbones in the literature
    "resnet18": "ResNet-18",
    "wide_resnet50_2": "Wide ResNet-50-2",
    "efficientnet_b5": "EfficientNet-B5",
}
TIMM = "timm/"  # prefix of the names of timm networks
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SEED = 2**32 - 1
MIN_BITS, MAX_BITS = 8, 16  # range of ``PaDiMConfig.bits``
MAX_SIDE = 8192  # pixels; a mistyped size should not exhaust the memory


@dataclass(frozen=True)
class PaDiMConfig:
    """The options of a model, except its backbone.

    Attributes:
        reduction: ``random`` (the paper's Rd), ``semi_orthogonal``, ``pca`` or ``none``.
        embedding_dim: d, the channels kept; ignored with ``none``.
        seed: seed of the random channels or the random projection.
        resize: side in pixels of the resized image, before the crop.
        crop: side in pixels of the centre crop and of the anomaly map.
        epsilon: added to the diagonal of every covariance (equation 1).
        sigma: standard deviation in pixels of the Gaussian that smooths the map.
        bits: number of bits that 16-bit images use, 8 to 16. With 16, images of a 10- or 12-bit
            camera are nearly black. 8-bit images are not affected.

    Raises:
        ModelError: a value is of the wrong type or out of range.

    Example:
        >>> PaDiMConfig(reduction="none", crop=256).sigma
        4.0
    """

    reduction: str = "random"
    embedding_dim: int | None = 100
    seed: int = 0
    resize: int = 256
    crop: int = 224
    epsilon: float = 0.01
    sigma: float = 4.0
    bits: int = MAX_BITS

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise unknown_name("reduction", self.reduction, REDUCTIONS)
        if self.reduction != "none":
            self._check_whole("embedding_dim", 1)
        self._check_whole("seed", 0, MAX_SEED)
        self._check_whole("resize", 1, MAX_SIDE)
        self._check_whole("crop", 1, MAX_SIDE)
        self._check_whole("bits", MIN_BITS, MAX_BITS)
        if self.crop > self.resize:
            raise ModelError(f"crop {self.crop} is larger than resize {self.resize}", "crop")
        self._check_number("epsilon", "above 0")
        self._check_number("sigma", "from 0 up")
        if self.epsilon == 0:
            raise ModelError("epsilon 0: expected a finite number above 0", "epsilon")
        if self.sigma > self.crop:
            raise ModelError(
                f"sigma {self.sigma:g} is larger than the image, {self.crop} pixels", "sigma"
            )

    @property
    def is_learned(self) -> bool:
        """Whether the reduction is learned; the training images are then read twice."""
        return self.reduction in LEARNED

    @classmethod
    def of_paper(cls, backbone: str) -> PaDiMConfig:
        """The paper's configuration of a backbone; the default one for other backbones."""
        return PAPER_CONFIGS.get(backbone, cls())

    def _check_whole(self, name: str, low: int, high: int | None = None) -> None:
        """Check a whole number, and convert a NumPy integer to int."""
        value = getattr(self, name)
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or value < low or (high is not None and value > high):
            upper = f" to {high}" if high else " up"
            raise ModelError(f"{name} {value!r}: expected a whole number from {low}{upper}", name)
        object.__setattr__(self, name, int(value))

    def _check_number(self, name: str, low: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            raise ModelError(f"{name} {value!r}: expected a finite number {low}", name)
        object.__setattr__(self, name, value if isinstance(value, int) else float(value))


PAPER_CONFIGS: Mapping[str, PaDiMConfig] = {
    "resnet18": PaDiMConfig("random", 100),
    "wide_resnet50_2": PaDiMConfig("random", 550),
    "efficientnet_b5": PaDiMConfig("none", None),
}
