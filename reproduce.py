"""The tables of the paper, ours beside theirs: all configurations from one pass over the images."""

from utils.cli.main import leave, reproduce

if __name__ == "__main__":
    leave(reproduce())
