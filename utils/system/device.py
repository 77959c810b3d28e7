"""The device of a run, and the versions it ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from utils.errors import OptionError
from utils.system.environment import local_world_size

PACKAGES = ("torch", "torchvision", "efficientnet_pytorch", "numpy", "scikit-image", "Pillow")


def choose_device(wanted: str) -> torch.device:
    """Choose the device of ``--device``; ``auto`` takes CUDA, MPS or the CPU, the first available.

    Raises:
        OptionError: the device is not available.
    """
    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    n_here = local_world_size()
    if wanted.startswith("cuda:") and n_here > 1:
        raise OptionError(
            f"--device {wanted} is one GPU for {n_here} processes: give cuda, or leave it out"
        )
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:  # each process has a GPU of its own
        wanted = f"cuda:{os.environ['LOCAL_RANK']}"
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = f"this machine has {count} CUDA device{'s' * (count != 1)}"
            raise OptionError(f"--device {wanted}: {there}; give cpu, or leave it out")
        torch.backends.cudnn.allow_tf32 = False  # faster, but it changes the scores
    if device.type == "mps" and not has_mps:
        raise OptionError(f"--device {wanted}: no MPS device here; give cpu, or leave it out")
    return device


def describe(device: torch.device) -> dict[str, str]:
    """Versions of everything that numbers may depend on, and the machine."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    is_cuda = device.type == "cuda"
    found["device"] = torch.cuda.get_device_name(device) if is_cuda else device.type
    found["cpu_threads"] = str(torch.get_num_threads())
    found["machine"] = f"{platform.system()} {platform.machine()}"
    return found
