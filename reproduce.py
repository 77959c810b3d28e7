"""The tables of the paper, ours beside theirs: all configurations from one pass over the images."""

from utils.cli.main import reproduce
from utils.system.process import exit_now

if __name__ == "__main__":
    exit_now(reproduce())
