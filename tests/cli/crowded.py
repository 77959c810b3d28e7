"""main_resnet.py with hardly any memory: test_processes.py runs it.

No process may hold all Gaussians, and the learner keeps as many bytes of embeddings as the
environment says.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from padim import fitting
from padim.parallel.process_group import ProcessGroup
from padim.parallel.sharded_gaussian import ShardedGaussian
from utils.cli import main as cli

NOT_SHARDED = 3


def main() -> int:
    """The run's exit status; ``NOT_SHARDED`` if the owners of positions did not score them."""
    scored = []
    score = ShardedGaussian.forward

    def noted(self: ShardedGaussian, embeddings: torch.Tensor) -> torch.Tensor:
        scored.append(len(embeddings))
        return score(self, embeddings)

    ShardedGaussian.forward = noted
    ProcessGroup.memory_share = lambda self: 0
    fitting.KEPT_BYTES = int(os.environ.get("KEPT_BYTES", fitting.KEPT_BYTES))
    status = cli.main("resnet18")
    return status if scored else status or NOT_SHARDED


if __name__ == "__main__":
    sys.exit(main())
