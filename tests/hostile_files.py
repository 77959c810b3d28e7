"""Model and weights files with something wrong in them, drawn from a seed; and what opens them.

As a script it opens every file of a folder with 1 GB of memory above its own, and prints what went
otherwise than promised.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOM = 2**30  # bytes above the program's own
JUNK: list[Any] = [
    None, True, False, -1, 0, 1, 7, 2**15, 2**31, 2**63, 2**70, 1e308, 1e-320, 0.5, float("nan"),
    float("inf"), "", "x", "a\nb", "\0", "\udc80", "x" * 300_000, [], {}, [[]], [1] * 1000,
    ["layer1"], [-1, -1], [16, 16], [2**31, 2**31], {"a": {}}, "resnet18", "../../etc/passwd",
]  # fmt: skip
Content = tuple[dict[str, str], dict[str, tuple[str, list[int], bytes]]]


def read(path: Path) -> Content:
    """Metadata, and every tensor's type, shape and bytes, of a safetensors file."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = (entry["dtype"], entry["shape"], raw[begin:end])
    return metadata, tensors


def pack(metadata: dict, tensors: dict, change: Callable[[dict], object] = lambda _: None) -> bytes:
    """The file of a content, signed anew; ``change`` is made to the header's entries."""
    kinds = {
        "F32": "float32",
        "F16": "float16",
        "I64": "int64",
        "BF16": "bfloat16",
        "F64": "float64",
        "U8": "uint8",
    }
    summary = hashlib.sha256(metadata["header"].encode(errors="surrogatepass"))
    for name, (dtype, shape, data) in sorted(tensors.items()):
        summary.update(f"{name}:torch.{kinds.get(dtype, dtype)}:{list(shape)}".encode() + data)
    entries: dict[str, Any] = {"__metadata__": metadata | {"checksum": summary.hexdigest()}}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    change(entries)
    header = json.dumps(entries).encode(errors="surrogatepass")
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + b"".join(t[2] for t in tensors.values())


def draw_model(good: Path, draw: random.Random) -> bytes:
    """A model file with one structural change, signed as a right one."""
    metadata, tensors = read(good)
    header = json.loads(metadata["header"])
    kind = draw.choice(
        ["header", "header", "config", "config", "pair", "key", "nest", "tensor", "tensor",
         "values", "ids", "entries", "entries", "missing", "raw", "length", "metadata"]
    )  # fmt: skip
    name = draw.choice(list(tensors))
    dtype, shape, data = tensors[name]
    if kind == "header":
        header[draw.choice(list(header))] = draw.choice(JUNK)
    elif kind == "config":
        header["config"][draw.choice(list(header["config"]))] = draw.choice(JUNK)
    elif kind == "pair":  # large, and right by itself
        side = draw.choice([1, 63, 65, 224, 4096, 8192])
        header["config"] |= {"resize": 8192, "crop": side, "sigma": draw.choice([0.0, 4.0, side])}
        header["grid"] = draw.choice([header["grid"], [side // 4 or 1] * 2, [1, 256], [side, 1]])
    elif kind == "key":
        part = draw.choice([header, header["config"]])
        if draw.random() < 0.5:
            del part[draw.choice(list(part))]
        else:
            part[draw.choice(["x", "", "seed", "__class__"])] = draw.choice(JUNK)
    elif kind == "tensor":
        shapes = [shape[::-1], [0, *shape], [], [2**40], [*shape, 1], [1, *shape], [0], [-1]]
        tensors[name] = (draw.choice([dtype, "F64", "BOOL", "U8", "F8_E5M2", "C64", "?"]),
                         draw.choice([shape, *shapes]), data)  # fmt: skip
    elif kind == "values":
        value = draw.choice([float("nan"), float("inf"), -1e38, 3e38])
        filled = struct.pack("<f", value) * (len(data) // 4)
        tensors[name] = (dtype, shape, draw.choice([filled, filled[:4] + data[4:]]))
    elif kind == "ids":
        ids = [draw.choice([-1, 0, 3, 447, 448, 2**62]) for _ in range(tensors["ids"][1][0])]
        tensors["ids"] = ("I64", tensors["ids"][1], struct.pack(f"<{len(ids)}q", *ids))
    elif kind == "missing":
        if draw.random() < 0.5:
            del tensors[name]
        else:
            tensors[draw.choice(["x", "", "projection", "a\nb"])] = (dtype, shape, data)
    text = json.dumps(header)
    if kind == "nest":
        depth = draw.choice([1000, 50_000, 400_000])
        text = draw.choice(["[" * depth, '{"a":' * depth, "[" * depth + "]" * depth, "", "null"])
    metadata["header"] = text
    if kind == "metadata":
        metadata[draw.choice(list(metadata))] = draw.choice(["", "9", "x" * 10**6, "\0"])
    content = pack(metadata, tensors, lambda e: _lie(e, draw) if kind == "entries" else None)
    if kind == "length":
        size = draw.choice([0, 1, 2**20, 2**32, 2**63, len(content), len(content) - 8])
        return struct.pack("<Q", size) + content[8:]
    if kind == "raw":
        at = draw.randrange(len(content))
        return draw.choice(
            [content[:at], content + b"\0" * at, content[:at] + bytes([draw.randrange(256)])
             + content[at + 1 :], b"", b"PK\3\4" + content, content[8:]]
        )  # fmt: skip
    return content


def _lie(entries: dict, draw: random.Random) -> None:
    """Change what the header says of the tensors."""
    name = draw.choice([name for name in entries if name != "__metadata__"])
    kind = draw.randrange(5)
    if kind == 0:
        entries[name]["data_offsets"] = draw.choice([[0, 2**40], [5, 3], [0, 0], [-1, 4], "x", []])
    elif kind == 1:
        entries[name]["shape"] = draw.choice([[2**34], [2**32, 2**32], [0, 2**62], None, [1.5]])
    elif kind == 2:
        entries[name] = draw.choice(JUNK)
    elif kind == 3:
        entries["__metadata__"] = draw.choice([None, [], {"header": 1}, {}, {"format": "x"}])
    else:
        entries[name]["dtype"] = draw.choice(["F128", None, 4, "f32"])


def draw_weights_file(good: dict[str, torch.Tensor], path: Path, draw: random.Random) -> None:
    """A weights file with one wrong tensor, or wrong in its container."""
    state: Any = dict(good)
    name = draw.choice(list(state))
    value = state[name]
    shape = value.shape
    wrong: list[Callable[[], Any]] = [
        lambda: torch.zeros(1).expand(2**17, 2**17),
        lambda: torch.zeros(1, dtype=value.dtype).expand(shape or (2**34,)),
        lambda: torch.full(shape, torch.nan),
        lambda: torch.full(shape, 1e300, dtype=torch.float64),
        lambda: torch.zeros(shape, dtype=torch.complex64).conj(),
        lambda: torch._neg_view(torch.zeros(shape)),
        lambda: torch.zeros(shape, dtype=torch.bool),
        lambda: torch.empty(shape, device="meta"),
        lambda: torch.quantize_per_tensor(torch.zeros(shape), 0.1, 0, torch.qint8),
        lambda: torch.zeros(4, 4).to_sparse(),
        lambda: torch.zeros(4, 4).to_sparse_csr(),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.zeros(0), lambda: torch.zeros(shape).half(), lambda: torch.zeros(2**20, 0),
        lambda: 3, lambda: None, lambda: {"a": value}, lambda: [value], lambda: "x" * 1000,
        lambda: torch.zeros(*shape, 1), lambda: torch.zeros(1).expand(2**30, 2**4).t(),
    ]  # fmt: skip
    kind = draw.choice(
        ["value"] * 4 + ["name", "outer", "inflate", "overlap", "cut", "safetensors"]
    )
    if kind == "value":
        state[name] = draw.choice(wrong)()
    elif kind == "name":
        state[draw.choice(["", "a\nb", "\0", "x" * 10_000, 5, ("a",), "conv1.weight.x"])] = value
    elif kind == "outer":
        state = draw.choice([[], 5, {"state_dict": 5}, {"state_dict": {"state_dict": state}}, {}])
    if kind == "safetensors":
        entries = {
            "__metadata__": {},
            name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        }
        _lie(entries, draw)
        header = json.dumps(entries).encode(errors="surrogatepass")
        path.with_suffix(".safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        return
    torch.save(state, path, _use_new_zipfile_serialization=draw.random() < 0.8)
    if kind in ("inflate", "overlap", "cut"):
        _damage(path, kind, draw)


def _damage(path: Path, kind: str, draw: random.Random) -> None:
    """Damage a file; of a zip, let an entry of zeros inflate to 4 GB."""
    if kind == "cut" or not zipfile.is_zipfile(path):
        content = path.read_bytes()
        path.write_bytes(content[: draw.randrange(len(content))])
        return
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    big = draw.randrange(len(entries))
    with zipfile.ZipFile(path, "w") as archive:
        for index, (name, data) in enumerate(entries):
            if index != big:
                archive.writestr(name, data)
            elif kind == "overlap":
                for copy in range(50):
                    archive.writestr(f"{name}{copy}", data)
            else:
                archive.writestr(name, bytes(2**26), zipfile.ZIP_DEFLATED, 1)
    if kind == "overlap":
        content = path.read_bytes()
        path.write_bytes(
            content.replace(struct.pack("<L", len(entries[big][1])), b"\xff\xff\xff\x7f")
        )


def main(folder: Path) -> int:
    """Open every file under a limit; one line for each that is not as promised."""
    import resource

    from padim import Backbone, PaDiM, PaDiMError

    backbone = Backbone("resnet18", folder / "good.pth")
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    PaDiM.load(folder / "good.safetensors", backbone).score(image)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    wrong = refused = 0
    paths = sorted((folder / "models").iterdir()) + sorted((folder / "weights").iterdir())
    for path in paths:
        try:
            if path.parent.name == "models":
                PaDiM.load(path, backbone).score(image)
            else:
                Backbone("resnet18", path, layers=["layer1"])
        except PaDiMError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > 1500:
                wrong += 1
                print(path.name, "message:", repr(str(error))[:300])
        except BaseException:
            wrong += 1
            print(path.name, traceback.format_exc()[-700:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{len(paths)} files, {refused} refused, {wrong} not as promised")
    print(f"peak {peak} MB, {own} MB of it the program's own")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
