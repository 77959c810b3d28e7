"""Files of tensors in the safetensors format: a JSON header with all types and shapes, then bytes.

Sizes are known, and bounded by the size of the file, before any tensor is read; nothing in such a
file is code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

MAX_HEADER = 2**20  # bytes; no file of a model or of weights has a larger one
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "U8": torch.uint8,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorFile:
    """An open file.

    Attributes:
        metadata: its text values.
        shapes: of every tensor.
        dtypes: of every tensor; None for types that are not in ``DTYPES``.
    """

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype | None]
    _file: Any

    def read(self, name: str) -> torch.Tensor:
        """Read a tensor into memory of its own: the file may change later."""
        return self._file.get_tensor(name).clone()


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file; no tensor is read.

    Raises:
        ValueError: the file is not in the format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
    if size < 8 or n_bytes > min(MAX_HEADER, size - 8):
        raise ValueError("no safetensors header")
    try:
        opened = safe_open(path, "pt")
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        dtypes = {name: DTYPES.get(part.get_dtype()) for name, part in slices.items()}
        metadata = opened.metadata() or {}
    except Exception as error:  # safetensors raises several types
        raise ValueError(" ".join(str(error).split())) from error
    with opened:
        yield TensorFile(metadata, shapes, dtypes, opened)


def write_tensors(
    file: BinaryIO, metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write a file, one tensor at a time; safetensors' own writer copies all of them first.

    Args:
        file: open for writing.
        metadata: text values.
        tensors: on the CPU, contiguous, of a type in ``DTYPES``.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)  # so that the tensors are aligned
    file.write(len(content).to_bytes(8, "little") + content)
    for tensor in tensors.values():
        file.write(bytes_of(tensor))


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    values: Any = tensor.detach().view(-1).view(torch.uint8).numpy()
    return memoryview(values)
