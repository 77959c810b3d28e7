"""Screenshots of every page, from a run of the demo set: `make screenshots WEIGHTS=FILE`.

Needs a Chromium; what it draws goes into this folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import launch  # noqa: E402

RUN = "resnet18_rd100_demo"
# Name, page, width, height, colour scheme, what is clicked first.
SHOTS = (
    ("page.png", f"result/{RUN}/index.html", 1300, 1750, "light", ()),
    ("page_dark.png", f"result/{RUN}/index.html#class=weave", 1300, 900, "dark", ("#images",)),
    ("image.png", f"result/{RUN}/index.html#show=missed", 880, 640, "light", (".open",)),
    ("phone.png", f"result/{RUN}/index.html#show=missed", 390, 844, "light", ("#images",)),
    ("predict.png", "judged/index.html", 1000, 860, "light", ()),
    ("seeds.png", f"result/{RUN}_seeds_0_1_2/index.html", 1300, 800, "light", ()),
    ("reproduce.png", "reproduction/index.html", 1300, 1300, "light", ()),
    ("runs.png", f"result/index.html#metric=pixel_auroc&against={RUN}", 1300, 680, "light", ()),
)


def make_runs(folder: Path, weights: str) -> None:
    """Run the demo in its variants: two reductions, seeds, a prediction, tables."""
    result, network = folder / "result", ("--weights", weights)
    main = ("main_resnet.py", *network, "--save_path", result)
    data = result / "demo_data"
    commands: tuple[tuple[object, ...], ...] = (
        main,
        (*main, "--reduction", "semi_orthogonal", "--figures", "none"),
        (*main, "--seeds", 0, 1, 2, "--figures", "none"),
        (
            *(
                "predict.py",
                "--model",
                result / RUN / "models/gear.*",
                *network,
                "--input",
                data / "gear/test",
            ),
            *("--save_path", folder / "judged", "--false_alarm_rate", 0.05, "--overwrite"),
        ),
        (
            *("reproduce.py", *network, "--data_path", data, "--backbones", "resnet18"),
            *("--save_path", folder / "reproduction"),
            *("--tables", "layers", "reduction", "--draws", 3),
        ),
    )
    for command in commands:
        words = [_found(word) if "*" in str(word) else str(word) for word in command]
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def _found(pattern: object) -> str:
    """The only file of a pattern, which an earlier command has made."""
    (path,) = Path(str(pattern)).parent.glob(Path(str(pattern)).name)
    return str(path)


def take(browser: Browser, folder: Path) -> None:
    """Take every screenshot; as few colours as do, so that the files are small."""
    for name, address, width, height, scheme, clicks in SHOTS:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(f"file://{folder}/{address}")
        for selector in clicks:
            if selector.startswith("#"):
                page.locator(selector).evaluate("element => element.scrollIntoView()")
            else:
                page.locator(selector).first.click()
        page.wait_for_timeout(500)
        with Image.open(BytesIO(page.screenshot())) as picture:
            small = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
        small.save(ROOT / "docs" / name, optimize=True)
        print(f"docs/{name}: {(ROOT / 'docs' / name).stat().st_size / 1000:.0f} kB")
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="imagenet", help="of ResNet-18: imagenet or a file")
    parser.add_argument("--folder", type=Path, help="keep the runs here; those there are used")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = (options.folder or Path(temporary)).resolve()
        browser = launch(playwright)
        if not (folder / "reproduction/index.html").exists():
            make_runs(folder, options.weights)
        take(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
