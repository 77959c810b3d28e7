"""Two runs over the same test images: is their difference more than noise?"""

from utils.cli.main import compare
from utils.system.process import exit_now

if __name__ == "__main__":
    exit_now(compare())
