"""MVTec LOCO AD, VisA as prepared, MVTec AD 2, Real-IAD and KolektorSDD, drawn small."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import SIDE, SPOT, draw_class, expect_one_line, run, save_image
from PIL import Image

from datasets.layouts import (
    LAYOUTS,
    check_outside,
    kolektor,
    mvtec_ad2,
    mvtec_loco,
    real_iad,
    visa,
)
from datasets.loading.cache import read_sample
from datasets.loading.defect_regions import defect_regions
from datasets.types import AnomalyClass, DataError, Saturation, counted
from padim.preprocessing import Preprocessing
from utils.evaluation.image_checksum import image_checksum

WHOLE = Preprocessing(SIDE, SIDE)


def save_mask(path: Path, spot: tuple[slice, slice] | None = SPOT, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if spot is not None:
        mask[spot] = value
    Image.fromarray(mask).save(path)


def masks_of(item: AnomalyClass) -> list[np.ndarray]:
    return [read_sample(s, WHOLE)[1].numpy() for s in item.test if s.is_defective]


def spotted() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[SPOT] = True
    return mask


# MVTec LOCO AD

OTHER = (slice(30, 38), slice(4, 12))  # 64 pixels
CONFIG = [
    {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 1.0, "relative": 1},
    {"defect_name": "b", "pixel_value": 254, "saturation_threshold": 35, "relative": 0},
    {"defect_name": "c", "pixel_value": 3, "saturation_threshold": 6300, "relative": 0},
    {"defect_name": "d", "pixel_value": 2, "saturation_threshold": 0.3, "relative": 1},
]


def write_config(folder: Path, entries: Any) -> None:
    (folder / "defects_config.json").write_text(json.dumps(entries))


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    folder = tmp_path / "loco/pushpins"
    for i in range(6):
        save_image(folder / f"train/good/{i:03d}.png", i)
        save_image(folder / f"test/good/{i:03d}.png", 20 + i)
    for i in range(2):
        save_image(folder / f"validation/good/{i:03d}.png", 10 + i)
    truth = folder / "ground_truth"
    for kind, n_images in (("logical_anomalies", 3), ("structural_anomalies", 2)):
        for i in range(n_images):
            save_image(folder / f"test/{kind}/{i:03d}.png", 40 + i, is_defective=True)
            save_mask(truth / f"{kind}/{i:03d}/000.png", SPOT, 255)
    save_mask(truth / "logical_anomalies/001/001.png", OTHER, 254)
    save_mask(truth / "logical_anomalies/002/001.png", OTHER, 3)
    save_mask(truth / "logical_anomalies/002/002.png", OTHER, 2)
    entries = [
        {k: v for k, v in entry.items() if k != "relative"}
        | {"relative_saturation": bool(entry["relative"])}
        for entry in CONFIG
    ]
    write_config(folder, entries)
    for name in ("license.txt", "readme.txt"):
        (folder / name).write_text("words")
    return folder


def test_loco(loco: Path) -> None:
    root = loco.parent
    assert mvtec_loco.find_classes(root) == ["pushpins"]
    item = mvtec_loco.read_class(root, "pushpins")
    assert (len(item.train), len(item.test), item.has_masks) == (6, 11, True)
    assert [s.defect for s in item.test[6:]] == [
        *["logical_anomalies"] * 3,
        *["structural_anomalies"] * 2,
    ]
    assert counted(item.skipped) == "2 validation image"
    assert item.remarks == ()
    assert item.saturations[:2] == (Saturation(255, 1.0, True), Saturation(254, 35, False))
    both = spotted()
    both[OTHER] = True
    expected = [spotted(), both, both, spotted(), spotted()]
    assert all(
        (mask == wanted).all() for mask, wanted in zip(masks_of(item), expected, strict=True)
    )


def test_loco_defects_one_by_one(loco: Path) -> None:
    item = mvtec_loco.read_class(loco.parent, "pushpins")
    regions = defect_regions(item, WHOLE)
    assert [region.image for region in regions] == [6, 7, 7, 8, 8, 8, 9, 10]
    shares = [region.saturation for region in regions]
    assert shares == [1, 1, 35 / 64, 1, 1, 19 / 64, 1, 1]  # 64 pixels do for 6300; 0.3 of 64 is 19
    assert [int(region.mask.sum()) for region in regions] == [140, 140, 64, 140, 64, 64, 140, 140]
    # In a crop that a defect is not in, there is no such region; what suffices stays.
    cut = defect_regions(item, Preprocessing(SIDE, 24))
    assert [region.image for region in cut] == [6, 7, 8, 9, 10]
    assert {region.saturation for region in cut} == {1.0}


def test_loco_run_has_spro(loco: Path, tmp_path: Path) -> None:
    options = ["--dataset=mvtec_loco", "--metrics", "image_auroc", "spro"]
    assert run(loco.parent, tmp_path / "out", *options) == 0
    folder = tmp_path / "out/resnet18_rd12_mvtec_loco_untrained"
    with (folder / "results.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert 0 <= float(row["spro_low"]) <= float(row["spro"]) <= float(row["spro_high"]) <= 1
    text = (folder / "results.md").read_text()
    parts = re.search(r"logical_anomalies (\S+), structural_anomalies (\d\.\d+)", text)
    assert parts is not None and "spro" in text
    assert float(row["spro"]) == pytest.approx(
        np.mean([float(x) for x in parts.groups()]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("{", "no JSON file"),
        ("{}", "no list of defects"),
        ("[]", "no list of defects"),
        ("[1]", "the entry 1; expected"),
        ({"pixel_value": 0}, "pixel_value 1 to 255"),
        ({"pixel_value": True}, "pixel_value 1 to 255"),
        ({"pixel_value": 254}, "pixel_value 254 twice"),
        ({"saturation_threshold": 0}, "above 0"),
        ({"saturation_threshold": float("nan")}, "above 0"),
        ({"saturation_threshold": 1.5}, "at most 1 if relative"),
        ({"saturation_threshold": "1"}, "the entry"),
        ({"relative_saturation": 1}, "true or false"),
    ],
)
def test_loco_with_a_bad_config(loco: Path, changed: Any, words: str) -> None:
    path = loco / "defects_config.json"
    if isinstance(changed, str):
        path.write_text(changed)
    else:
        entries = json.loads(path.read_text())
        write_config(loco, [entries[0] | changed, *entries[1:]])
    with pytest.raises(DataError, match=words):
        mvtec_loco.read_class(loco.parent, "pushpins")


def test_loco_without_a_config_has_no_spro_and_says_so(loco: Path) -> None:
    (loco / "defects_config.json").unlink()
    item = mvtec_loco.read_class(loco.parent, "pushpins")
    assert item.saturations == () and "no defects_config.json" in item.remarks[0]


@pytest.mark.parametrize("values", [(7,), (255, 254)])
def test_loco_masks_that_no_defect_is_known_of(loco: Path, values: tuple[int, ...], capsys) -> None:
    path = loco / "ground_truth/logical_anomalies/000/000.png"
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for i, value in enumerate(values):
        mask[10 * i : 10 * i + 5] = value
    Image.fromarray(mask).save(path)
    item = mvtec_loco.read_class(loco.parent, "pushpins")
    with pytest.raises(DataError, match="000.png holds the values .*defects_config.json"):
        defect_regions(item, WHOLE)
    if len(values) == 1:  # a run has all other numbers and says why there is none
        save = loco.parent.parent / "out"
        assert run(loco.parent, save, "--dataset=mvtec_loco", "--metrics", "pro", "spro") == 0
        results = save / "resnet18_rd12_mvtec_loco_untrained/results.md"
        assert "no spro: mask" in results.read_text()


def test_loco_checksums_see_every_mask_and_threshold(loco: Path) -> None:
    def both() -> tuple[str, str]:
        item = mvtec_loco.read_class(loco.parent, "pushpins")
        return image_checksum(item), item.digest(with_times=False)

    first = both()
    config = loco / "defects_config.json"
    config.write_text(config.read_text().replace("35", "36"))
    second = both()
    assert second[0] == first[0] and second[1] != first[1]
    save_mask(loco / "ground_truth/logical_anomalies/002/002.png", SPOT, 2)
    assert both()[0] != second[0]


# VisA as its script prepares it


def draw_prepared(folder: Path, has_colour: bool) -> None:
    for i in range(4):
        save_image(folder / f"train/good/{i:04d}.JPG", i)
    for i in range(2):
        save_image(folder / f"test/good/{9 + i:04d}.JPG", 10 + i)
        save_image(folder / f"test/bad/{i:03d}.JPG", 30 + i, is_defective=True)
        save_mask(folder / f"ground_truth/bad/{i:03d}.png")
    (folder / "ground_truth/good").mkdir()
    if has_colour:  # anomalib's copy of the script writes three channels
        for path in (folder / "ground_truth/bad").iterdir():
            Image.open(path).convert("RGB").save(path)


@pytest.mark.parametrize("root", ["VisA_pytorch", "VisA_pytorch/1cls"])
@pytest.mark.parametrize("has_colour", [False, True])
def test_prepared_visa(root: str, has_colour: bool, tmp_path: Path) -> None:
    for name in ("capsules", "candle"):
        draw_prepared(tmp_path / "VisA_pytorch/1cls" / name, has_colour)
    assert visa.find_classes(tmp_path / root) == ["candle", "capsules"]
    item = visa.read_class(tmp_path / root, "capsules")
    assert (len(item.train), len(item.test)) == (4, 4)
    assert [item.path_of(sample) for sample in item.test] == [
        *("test/good/0009.JPG", "test/good/0010.JPG", "test/bad/000.JPG", "test/bad/001.JPG"),
    ]
    assert all((mask == spotted()).all() for mask in masks_of(item))
    assert item.remarks == () and item.skipped == ()


def test_the_table_of_visa_goes_before_what_is_prepared(tmp_path: Path) -> None:
    draw_prepared(tmp_path / "1cls/candle", has_colour=False)
    (tmp_path / "split_csv").mkdir()
    header = "object,split,label,image,mask\n"
    (tmp_path / "split_csv/1cls.csv").write_text(f"{header}fryum,train,normal,x.JPG,\n")
    assert visa.find_classes(tmp_path) == ["fryum"]


# MVTec AD 2


@pytest.fixture
def ad2(tmp_path: Path) -> Path:
    folder = tmp_path / "mvtec_ad_2/can"
    for i in range(5):
        save_image(folder / f"train/good/{i:03d}_regular.png", i)
    for i in range(2):
        save_image(folder / f"validation/good/{i:03d}_regular.png", 10 + i)
    for i, light in enumerate(("overexposed", "regular", "shift_1")):
        save_image(folder / f"test_public/good/{i:03d}_{light}.png", 20 + i)
        save_image(folder / f"test_public/bad/{i:03d}_{light}.png", 30 + i, is_defective=True)
        save_mask(folder / f"test_public/ground_truth/bad/{i:03d}_{light}_mask.png")
        save_image(folder / f"test_private/{i:03d}_regular.png", 40 + i)
        save_image(folder / f"test_private_mixed/{i:03d}_mixed.png", 50 + i)
    return folder


def test_mvtec_ad2(ad2: Path) -> None:
    assert mvtec_ad2.find_classes(ad2.parent) == ["can"]
    item = mvtec_ad2.read_class(ad2.parent, "can")
    assert (len(item.train), len(item.test), item.has_masks) == (5, 6, True)
    assert item.path_of(item.test[3]) == "test_public/bad/000_overexposed.png"
    assert all((mask == spotted()).all() for mask in masks_of(item))
    assert counted(item.skipped) == ("6 private test image, 2 validation image")
    assert item.remarks == ()


def test_mvtec_ad2_without_a_mask(ad2: Path, tmp_path: Path, capsys) -> None:
    (ad2 / "test_public/ground_truth/bad/001_regular_mask.png").unlink()
    status = run(ad2.parent, tmp_path / "out", "--dataset=mvtec_ad2")
    expect_one_line(capsys, status, "no mask for", "test_public/ground_truth/bad/001_regular_mask")


def test_mvtec_ad2_without_the_public_test_set(ad2: Path) -> None:
    for path in sorted((ad2 / "test_public").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match="no test image in .*test_public"):
        mvtec_ad2.read_class(ad2.parent, "can")


def test_mvtec_ad2_is_not_mvtec_ad(ad2: Path, tmp_path: Path) -> None:
    draw_class(tmp_path / "other")
    with pytest.raises(DataError, match="layout of MVTec AD 2"):
        mvtec_ad2.find_classes(tmp_path / "other")


# Real-IAD


@pytest.fixture(params=["realiad_jsons", "realiad_jsons/realiad_jsons"])
def real_iad_root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "Real-IAD"
    train, test = [], []

    def add(split: list, kind: str, number: int, view: int, has_mask: bool = False) -> None:
        label = "OK" if kind == "OK" else f"NG/{kind}"
        name = f"{label}/S{number:04d}/toy_{number:04d}_{kind}_C{view}_2023"
        save_image(root / f"realiad_1024/toy/{name}.jpg", number + view, has_mask)
        if has_mask:
            save_mask(root / f"realiad_1024/toy/{name}.png")
        mask = f"{name}.png" if has_mask else None
        entry = {"category": "toy", "anomaly_class": kind, "image_path": f"{name}.jpg"}
        split.append(entry | {"mask_path": mask})

    for i in range(4):
        add(train, "OK", i, 1 + i % 2)
    add(test, "QS", 9, 1, has_mask=True)
    add(test, "QS", 9, 2)  # from this side nothing is to be seen
    add(test, "AK", 10, 1, has_mask=True)
    add(test, "OK", 11, 1)
    (root / request.param).mkdir(parents=True)
    (root / "realiad_512").mkdir()
    meta = {"normal_class": "OK", "prefix": "toy/"}
    text = json.dumps({"meta": meta, "train": train, "test": test})
    (root / request.param / "toy.json").write_text(text)
    return root


def split_file(root: Path) -> Path:
    (path,) = root.glob("realiad_jsons/**/toy.json")
    return path


def test_real_iad(real_iad_root: Path) -> None:
    assert real_iad.find_classes(real_iad_root) == ["toy"]
    item = real_iad.read_class(real_iad_root, "toy")
    assert (len(item.train), len(item.test), item.has_masks) == (4, 4, True)
    assert [sample.defect for sample in item.test] == ["good", "good", "AK", "QS"]
    start = "realiad_1024/toy/NG/AK/S0010/"
    assert item.path_of(item.test[2]) == f"{start}toy_0010_AK_C1_2023.jpg"
    assert all((mask == spotted()).all() for mask in masks_of(item))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"meta"', '"mata"', "no split of Real-IAD .*meta"),
        ('"train"', '"learn"', "no split of Real-IAD .*train"),
        ('"image_path"', '"img"', "no split of Real-IAD .*image_path"),
        ("{", "", "no split of Real-IAD"),
        ("OK/S0001", "../../../S0001", "^.*toy.json names the file '../../../S0001/.*is not in"),
        ("OK/S0001", "OK/S0007", "^.*toy.json names the file .*does not exist$"),
        (
            '"anomaly_class": "OK", "image_path": "OK/S0000',
            '"anomaly_class": "x", "image_path": "OK/S0000',
            "4 ",
        ),
    ],
)
def test_real_iad_with_a_bad_split(real_iad_root: Path, old: str, new: str, words: str) -> None:
    path = split_file(real_iad_root)
    path.write_text(path.read_text().replace(old, new, 1))
    if words == "4 ":  # without a mask it is normal, whatever it is called
        assert len(real_iad.read_class(real_iad_root, "toy").train) == 4
        return
    with pytest.raises(DataError, match=words):
        real_iad.read_class(real_iad_root, "toy")


def test_real_iad_with_a_defect_to_learn_from(real_iad_root: Path) -> None:
    path = split_file(real_iad_root)
    content = json.loads(path.read_text())
    content["train"].append(content["test"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="defective images in its training split"):
        real_iad.read_class(real_iad_root, "toy")


# KolektorSDD


@pytest.fixture
def ksdd(tmp_path: Path) -> Path:
    root = tmp_path / "KolektorSDD"
    for item in range(1, 5):
        for part in range(4):
            is_defective = (item, part) in ((1, 2), (3, 0), (4, 3))
            path = root / f"kos{item:02d}/Part{part}.jpg"
            save_image(path, 10 * item + part, is_defective)
            save_mask(path.with_name(f"Part{part}_label.bmp"), SPOT if is_defective else None)
    return root


def test_kolektorsdd(ksdd: Path) -> None:
    assert kolektor.find_classes(ksdd) == ["kolektorsdd"]
    item = kolektor.read_class(ksdd, "kolektorsdd")
    assert (len(item.train), len(item.test), item.has_masks) == (10, 6, True)
    assert [item.path_of(sample) for sample in item.test if sample.is_defective] == [
        *("kos01/Part2.jpg", "kos03/Part0.jpg", "kos04/Part3.jpg"),
    ]
    # anomalib's split: 13 normal parts in the order of their names, drawn with NumPy's seed 42.
    normal = sorted(item.path_of(s) for s in (*item.train, *item.test) if not s.is_defective)
    chosen = np.random.RandomState(42).permutation(13)[:10]
    assert {item.path_of(sample) for sample in item.train} == {normal[i] for i in chosen}
    assert all((mask == spotted()).all() for mask in masks_of(item))
    assert item == kolektor.read_class(ksdd, "kolektorsdd")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kos02/Part1_label.bmp", "no mask for .*Part1.jpg: expected Part1_label.bmp"),
        ("", "is 9x9"),
    ],
)
def test_kolektorsdd_with_a_bad_mask(name: str, words: str, ksdd: Path) -> None:
    if name:
        (ksdd / name).unlink()
    else:
        Image.new("L", (9, 9)).save(ksdd / "kos02/Part1_label.bmp")
    with pytest.raises(DataError, match=words):
        kolektor.read_class(ksdd, "kolektorsdd")


def test_a_mask_without_its_image_is_named(ksdd: Path) -> None:
    (ksdd / "kos02/Part1.jpg").unlink()
    item = kolektor.read_class(ksdd, "kolektorsdd")
    assert counted(item.skipped) == "1 mask without an image"


# Where results may not go


@pytest.mark.parametrize(
    ("name", "inside"),
    [("visa", "1cls/candle/out"), ("kolektorsdd", "kos01/out"), ("real_iad", "realiad_1024/out")],
)
def test_results_do_not_go_between_the_images(
    name: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / inside).parent.mkdir(parents=True)
    layout = LAYOUTS[name]
    monkeypatch.setattr(layout._module, "find_classes", lambda root: ["candle"])
    with pytest.raises(DataError, match="which images are read from"):
        check_outside(layout, tmp_path, tmp_path / inside, "--save_path")
    check_outside(layout, tmp_path, tmp_path.parent / "out", "--save_path")
