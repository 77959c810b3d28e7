"""The resize and the crop of ``preprocessing`` in operations of ONNX, for images of any size.

ONNX's antialiased ``Resize`` is not used: OpenVINO ignores the antialiasing, and ONNX Runtime's
arithmetic differs in 0.1 % of the values. A resize along one axis is a matrix instead, computed
in the graph from the size of the image. Its weights have 16 bits, as in PyTorch's uint8 resize.
"""

from __future__ import annotations

import torch
from torch import nn

from padim.preprocessing import Preprocessing

CUBIC = -0.5  # the parameter of the cubic filter in antialiased resizes, Pillow's and PyTorch's
MAX_WEIGHT_BITS = 22


class ResizeAndCrop(nn.Module):
    """Images (B, h, w, 3), uint8, to crops (B, 3, crop, crop), float32 with whole values.

    The values equal those of ``Preprocessing.crop_of``, unless a sum exceeds the 24 bits of
    float32: for 3000 x 2000 pixels, 1 value in 50,000 differs by 1.

    Args:
        preprocessing: of the model.
    """

    powers: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self._resize, self._crop = preprocessing.resize, preprocessing.crop
        self._first = (self._resize - self._crop) // 2
        self.register_buffer("powers", 2.0 ** torch.arange(1, MAX_WEIGHT_BITS + 1).double())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Resize across, then down, as PyTorch does; each step rounds."""
        rows, row_scale = self._weights(images.shape[1])
        columns, column_scale = self._weights(images.shape[2])
        colours = images.permute(0, 3, 1, 2).to(torch.float32)
        # The exporter of PyTorch 2.6 knows no matrix product of these axes but by einsum.
        across = torch.einsum("bchw,kw->bchk", colours, columns)
        down = torch.einsum("rh,bchk->bcrk", rows, _rounded(across, column_scale))
        return _rounded(down, row_scale)

    def _weights(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer weights (crop, size), and the scale that they are multiplied by.

        Computed in float64, as in PyTorch. Distances are quotients of integers, so that they are
        also right in a runtime with float32 only.
        """
        target = torch.arange(self._resize)[:, None]
        source = torch.arange(size)[None]
        twice = size * (2 * target + 1) - self._resize * (2 * source + 1)
        longer = torch.clamp(torch.scalar_tensor(size), min=self._resize)
        distance = twice.abs().to(torch.float64) / (2 * longer).to(torch.float64)
        weights = _cubic(distance)
        weights = weights / weights.sum(dim=1, keepdim=True)
        # The largest unit with which every weight fits into 16 bits.
        fits = (weights.max() * self.powers + 0.5).floor() < 2**15
        scale = torch.exp2(fits.to(torch.float64).sum())
        kept = weights[self._first : self._first + self._crop] * scale
        return kept.round().to(torch.float32), scale.to(torch.float32)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """The cubic convolution filter (Keys, 1981) at a distance from 0 up."""
    a = CUBIC
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(
        distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance))
    )


def _rounded(levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (levels / scale + 0.5).floor().clamp(0, 255)
