"""``--region`` and ``region.png``: from the mask to tables, figures, maps and resumed runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scripts
from helpers import SIDE, draw_class, draw_image, expect_one_line, result, rows, run, save_image
from PIL import Image

from datasets.layouts import kolektor
from padim.model import PaDiM
from utils.cli.main import predict, reproduce

LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[:, :20] = True  # the spots begin at columns 12, 16 and 20 and are 12 wide: one is all outside
WHOLE = ["--crop=none", "--figures=1"]


def save_mask(mask: np.ndarray, path: Path) -> Path:
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw_class(tmp_path / "data", n_train=9)
    return tmp_path / "data"


def test_from_the_mask_to_the_page(root: Path, tmp_path: Path, capsys) -> None:
    """A run in a process of its own, then a prediction with its model."""
    mask, save = save_mask(LEFT, tmp_path / "left.png"), tmp_path / "out"
    options = ["--data_path", root, "--save_path", save, "--weights=random", "--embedding_dim=12"]
    status, out, err = scripts.run(
        "main_resnet.py", *options, *scripts.SMALL, *WHOLE, "--region", mask
    )
    assert status == 0, err
    looked_at = f"42 % of each image is looked at (region {mask})"
    outside = "lie outside and count as missed (in 3 of 3 masks, 1 of them entirely)"
    folder = result(save)
    for text in (out, (folder / "results.md").read_text(), (folder / "index.html").read_text()):
        assert looked_at in text and outside in text
    assert out.count(looked_at) == 2  # before the run and after it
    found = json.loads((folder / "results.json").read_text())
    assert len(found["settings"]["region_checksum"]) == 16
    (figure,) = (folder / "figures/tiles").iterdir()
    drawn = np.asarray(Image.open(figure).convert("RGB"))
    assert figure_has_hatching(drawn)
    expect_maps_that_end_at_the_mask(folder / "models/tiles.safetensors", root, tmp_path)
    assert "42 % of each image is looked at" in capsys.readouterr().out


def expect_maps_that_end_at_the_mask(model: Path, root: Path, tmp_path: Path) -> None:
    """Ten times as large, the border is as bright as the map's edge: no zeros are mixed in."""
    wide, judged = tmp_path / "wide.png", tmp_path / "judged"
    draw_image(3).resize((480, 480)).save(wide)
    argv = ["--model", str(model), "--save_path", str(judged), "--num_workers=0", "--npy"]
    assert predict([*argv, "--input", str(root / "tiles/test/spot"), str(wide)]) == 0
    for path in (judged / "maps/spot").glob("*.png"):
        levels = np.asarray(Image.open(path))
        assert levels.shape == (SIDE, SIDE)
        assert levels[:, 20:].max() == 0 < levels[:, :20].min()
    summary = json.loads((judged / "summary.json").read_text())
    assert summary["looked_at"] == pytest.approx(27 / 64)
    with (judged / "regions.csv").open() as file:
        spots = [row for row in csv.DictReader(file) if "spot" in row["path"]]
        assert spots and all(int(row["right"]) <= 21 for row in spots)  # 27 of 64 are 20.25 of 48
    levels, end = np.asarray(Image.open(judged / "maps/wide.png.png")), 27 * 480 // 64
    assert levels[:, end + 8 :].max() == 0 < levels[:, : end - 8].min()
    edge = np.load(judged / "maps/wide.png.npy")[:, 26]
    assert (levels[:, end - 4] * summary["distance_per_map_level"]).min() > 0.95 * edge.min()


def figure_has_hatching(figure: np.ndarray) -> bool:
    """The last panel is grey on the right of the mask, below the spot, and the first is not."""
    rows, right = slice(50 + 120, 50 + 192), slice(150, 190)
    first, last = figure[rows, 12:204][:, right], figure[rows, -204:-12][:, right]
    coloured, grey = (np.ptp(part.astype(int), axis=2).mean() for part in (first, last))
    return grey < 0.2 * coloured


def test_a_file_of_the_class_and_what_comes_before_it(root: Path, tmp_path: Path, capsys) -> None:
    draw_class(root, "plain", n_train=9)
    own = save_mask(LEFT, root / "tiles" / "region.png")
    assert run(root, tmp_path / "own", *WHOLE) == 0
    said = capsys.readouterr().out
    assert f"tiles: 42 % of each image is looked at (region {own})" in said
    assert "plain: 42 %" not in said
    assert "region.png" not in (result(tmp_path / "own") / "skipped.csv").read_text()
    shares = {}
    for name in ("tiles", "plain"):
        model = PaDiM.load(result(tmp_path / "own") / f"models/{name}.safetensors")
        shares[name] = None if model.region is None else model.region.share
    assert shares == {"tiles": pytest.approx(27 / 64), "plain": None}
    assert run(root, tmp_path / "none", *WHOLE, "--region=none", "--classes", "tiles") == 0
    assert "looked at" not in capsys.readouterr().out
    other = save_mask(~LEFT, tmp_path / "right.png")
    assert run(root, tmp_path / "given", *WHOLE, f"--region={other}", "--classes", "tiles") == 0
    assert f"58 % of each image is looked at (region {other})" in capsys.readouterr().out
    auroc = [float(rows(tmp_path / n)["tiles"]["pixel_auroc"]) for n in ("own", "none", "given")]
    assert len(set(auroc)) == 3


def test_another_region_is_another_run(root: Path, tmp_path: Path, capsys) -> None:
    """The same mask in another file is the same; figures are drawn anew from the model."""
    left, save = save_mask(LEFT, tmp_path / "left.png"), tmp_path / "out"
    assert run(root, save, *WHOLE, f"--region={left}") == 0
    before = rows(save)["tiles"]
    again = tmp_path / "again.bmp"
    Image.open(left).save(again)
    capsys.readouterr()
    assert run(root, save, "--crop=none", "--figures=2", f"--region={again}") == 0
    said = capsys.readouterr().out
    assert "figures drawn from the kept model" in said
    assert rows(save)["tiles"] == before
    for path in (result(save) / "figures/tiles").iterdir():
        assert figure_has_hatching(np.asarray(Image.open(path).convert("RGB")))
    other = save_mask(~LEFT, tmp_path / "right.png")
    for options in ([], [f"--region={other}"]):
        assert run(root, save, *WHOLE, *options) == 2
        expect_one_line(capsys, 2, "from another run (region_checksum")
    assert rows(save)["tiles"] == before


def test_seeds_share_the_region(root: Path, tmp_path: Path) -> None:
    left = save_mask(LEFT, tmp_path / "left.png")
    assert run(root, tmp_path / "out", *WHOLE, f"--region={left}", "--seeds", "0", "3") == 0
    single = ["--seed=3", "--classes=tiles"]
    assert run(root, tmp_path / "one", *WHOLE, f"--region={left}", *single) == 0
    several = (tmp_path / "out/resnet18_rd12_untrained_seed3/scores/tiles.csv").read_text()
    assert several == (result(tmp_path / "one") / "scores/tiles.csv").read_text()


@pytest.mark.parametrize(
    ("draw_mask", "options", "words"),
    [
        (lambda path: None, [], ("--region ", "mask.png does not exist")),
        (lambda path: path.write_bytes(b"no image"), [], ("--region: ", "not an image")),
        (lambda path: save_mask(LEFT & False, path), [], ("--region ", "all black")),
        (lambda path: save_image(path, 3), [], ("--region ", "neither black nor white")),
        (lambda path: save_mask(LEFT[:30], path), [], ("48x30", "000.png is 48x48")),
        (lambda path: save_mask(np.eye(48, k=47) > 0, path), [], ("no white pixel within", "crop")),
    ],
)
def test_masks_that_cannot_be_used(draw_mask, options, words, root: Path, tmp_path, capsys) -> None:
    mask = tmp_path / "mask.png"
    draw_mask(mask)
    assert run(root, tmp_path / "out", f"--region={mask}", *options) == 2
    expect_one_line(capsys, 2, *words)
    if mask.exists():  # in the folder of the class it is named, but no option is
        mask.rename(root / "tiles/region.png")
        assert run(root, tmp_path / "out", *options) == 2
        expect_one_line(capsys, 2, "error: region", words[-1].replace("mask.png", "region.png"))


def test_who_cannot_use_a_region_says_so(root: Path, tmp_path: Path, capsys) -> None:
    left = save_mask(LEFT, tmp_path / "left.png")
    with pytest.raises(SystemExit):
        run(root, tmp_path / "out", "--dataset=rd_mvtec", f"--region={left}")
    expect_one_line(capsys, 2, "--region", "rd_mvtec")
    left.rename(root / "tiles/region.png")
    assert run(root, tmp_path / "out", "--dataset=rd_mvtec") == 2
    expect_one_line(capsys, 2, "tiles/region.png", "--region none")
    argv = ["--data_path", str(root), "--weights=random", "--tables", "reduction"]
    save = ["--save_path", str(tmp_path / "tables"), "--backbones", "resnet18"]
    assert reproduce([*argv, *save]) == 2
    expect_one_line(capsys, 2, "tiles/region.png", "move it away")


def test_a_mask_is_no_image_of_kolektor(tmp_path: Path) -> None:
    for item in range(12):
        save_image(tmp_path / f"kos{item:02d}/Part0.jpg", item)
        label = np.zeros((SIDE, SIDE), np.uint8)
        label[:4, :4] = 255 * (item > 9)
        Image.fromarray(label).save(tmp_path / f"kos{item:02d}/Part0_label.bmp")
    before = kolektor.read_class(tmp_path, kolektor.CLASS)
    (tmp_path / kolektor.CLASS).mkdir()
    save_mask(LEFT, tmp_path / kolektor.CLASS / "region.png")
    assert kolektor.read_class(tmp_path, kolektor.CLASS) == before
