"""main_resnet.py where no process has the room for all Gaussians; test_team.py runs it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from padim.team import Team
from utils import cli

if __name__ == "__main__":
    Team.room = lambda self: 0
    sys.exit(cli.main("resnet18", "crowded.py", "random", 100))
