"""How long the pages take in a browser: 2,300 figures, and 20,000 images judged.

    python benchmarks/pages.py

Loaded is until the browser's load event; a filter is from its change until the next frame is
painted, the median of several. Figures are files, as in a run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import launch  # noqa: E402
from common import machine, markdown  # noqa: E402
from pages import draw_record, make_prediction, make_run  # noqa: E402

N_CLASSES, N_GOOD, N_DEFECTIVE = 15, 53, 101  # 2,310 figures
ROUNDS = 7

LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
# What is posted in a frame's callback comes when that frame has been painted.
PAINTED = """await new Promise((done) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = done;
    port2.postMessage(0);
  }));"""
FILTER = """async (value) => {
  const radio = document.querySelector(`[name="show"][value="${value}"]`);
  const start = performance.now();
  radio.click();
  %(painted)s
  return performance.now() - start;
}""".replace("%(painted)s", PAINTED)
SEARCH = """async (text) => {
  const start = performance.now();
  search.value = text;
  search.dispatchEvent(new Event("input"));
  %(painted)s
  return performance.now() - start;
}""".replace("%(painted)s", PAINTED)


def main() -> None:
    print(f"On {machine()}.\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        records = [
            draw_record(f"class {i:02d}", N_GOOD, N_DEFECTIVE, seed=i) for i in range(N_CLASSES)
        ]
        n_figures = sum(len(record.images) for record in records)
        pages = {
            f"a run, {n_figures} figures": make_run(root / "run", records),
            "a prediction, 2000 of 20000 images": make_prediction(root / "judged", 2000, 20_000),
        }
        browser = launch(playwright)
        for name, path in pages.items():
            values = ["all", "missed", "false", "misranked"] if "run" in name else ["all", "normal"]
            rows.append((name, *measure(browser.new_page, path, values)))
        browser.close()
    print(markdown(("page", "size, MB", "loaded, s", "a filter, ms", "a name typed, ms"), rows))


def measure(new_page, path: Path, values: list[str]) -> tuple[str, str, str, str]:
    loaded, filtered, searched = [], [], []
    for _ in range(ROUNDS):
        page: Page = new_page(viewport={"width": 1300, "height": 900})
        page.goto(f"file://{path}")
        loaded.append(page.evaluate(LOADED) / 1000)
        page.wait_for_timeout(500)
        filtered += [page.evaluate(FILTER, value) for value in (*values[1:], values[0])]
        searched.append(page.evaluate(SEARCH, "00"))
        page.close()
    size = path.stat().st_size / 1e6
    medians = [statistics.median(times) for times in (loaded, filtered, searched)]
    return f"{size:.2f}", f"{medians[0]:.2f}", f"{medians[1]:.0f}", f"{medians[2]:.0f}"


if __name__ == "__main__":
    main()
