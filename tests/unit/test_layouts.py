"""Data sets in the layouts they are published in, drawn small."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SIDE, SPOT, draw_class, draw_image, expect_one_line, run, save_image
from PIL import Image

from datasets.layouts import (
    LAYOUTS,
    btad,
    choose_classes,
    mvtec,
    preprocessing_of,
    shanghaitech,
    visa,
)
from datasets.layouts.rd_mvtec import Placed, RandomPreprocessing
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.labelled import ImageStream
from datasets.loading.video import read_frame
from datasets.types import DataError, Sample
from padim.preprocessing import Preprocessing


def save_mask(path: Path, side: int = SIDE, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((side, side), np.uint8)
    mask[SPOT] = value
    Image.fromarray(mask).save(path)


def result_rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return {row["class"]: row for row in csv.DictReader(file)}


# BTAD


@pytest.fixture
def btad_root(tmp_path: Path) -> Path:
    root = tmp_path / "BTech"
    for i in range(5):
        save_image(root / f"01/train/ok/{i:04d}.bmp", i)
    for i in range(3):
        save_image(root / f"01/test/ok/{i:04d}.bmp", 10 + i)
        save_image(root / f"01/test/ko/{i:04d}.bmp", 20 + i, is_defective=True)
        save_mask(root / f"01/ground_truth/ko/{i:04d}.png")
    return root


def test_btad(btad_root: Path, tmp_path: Path) -> None:
    assert btad.find_classes(btad_root) == ["01"]
    item = btad.read_class(btad_root, "01")
    assert (len(item.train), len(item.test), item.has_masks) == (5, 6, True)
    assert [item.path_of(sample) for sample in item.test][2:4] == [
        "test/ok/0002.bmp",
        "test/ko/0000.bmp",
    ]
    assert item.test[3].mask == btad_root / "01/ground_truth/ko/0000.png"

    assert run(btad_root, tmp_path / "out", "--dataset=btad") == 0
    folder = tmp_path / "out/resnet18_rd12_btad_untrained"
    assert float(result_rows(folder)["01"]["pixel_auroc"]) > 0.75
    assert (folder / "figures/01/ko_0000.png").is_file()


def test_btad_without_a_mask(btad_root: Path, tmp_path: Path, capsys) -> None:
    (btad_root / "01/ground_truth/ko/0001.png").unlink()
    status = run(btad_root, tmp_path / "out", "--dataset=btad")
    expect_one_line(capsys, status, "no mask for", "0001.bmp", "ground_truth/ko/0001")


# VisA


@pytest.fixture
def visa_root(tmp_path: Path) -> Path:
    root = tmp_path / "VisA"
    lines = ["object,split,label,image,mask"]
    for i in range(6):
        name = f"candle/Data/Images/Normal/{i:04d}.JPG"
        save_image(root / name, i)
        lines.append(f"candle,{'train' if i < 4 else 'test'},normal,{name},")
    for i in range(2):
        name, mask = (
            f"candle/Data/Images/Anomaly/{i:03d}.JPG",
            f"candle/Data/Masks/Anomaly/{i:03d}.png",
        )
        save_image(root / name, 30 + i, is_defective=True)
        save_mask(root / mask, value=1 + i)  # labels of kinds of defect, hardly above black
        lines.append(f"candle,test,anomaly,{name},{mask}")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def change(root: Path, old: str, new: str) -> None:
    path = root / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(old, new))


def test_visa(visa_root: Path) -> None:
    assert visa.find_classes(visa_root) == ["candle"]
    item = visa.read_class(visa_root, "candle")
    assert (len(item.train), len(item.test)) == (4, 4)
    assert [sample.defect for sample in item.test] == ["good", "good", "anomaly", "anomaly"]
    assert item.path_of(item.test[2]) == "candle/Data/Images/Anomaly/000.JPG"
    _, mask = read_sample(item.test[3], Preprocessing(SIDE, SIDE))
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[SPOT] = True
    assert mask.equal(expected)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("object,split", "object,part", "no column split"),
        ("Normal/0001.JPG", "Normal/gone.JPG", "gone.JPG, which does not exist"),
        ("candle/Data/Images/Normal/0001.JPG", "../../x.png", "which is not in"),
        ("candle/Data/Images/Normal/0001.JPG", "/etc/hosts", "which is not in"),
        ("test,anomaly", "test,broken", "label 'broken'"),
        ("test,anomaly", "train,anomaly", "defective images in its training split"),
        ("candle,train", "../candle,train", "is no class"),
        ("candle,train", "pear,train", "0 training images"),
        ("Masks/Anomaly/001.png", "", "names the file"),
    ],
)
def test_visa_with_a_bad_table(visa_root: Path, old: str, new: str, words: str) -> None:
    if old.startswith("Masks"):
        old = f"candle/Data/{old}"
    change(visa_root, old, new)
    with pytest.raises(DataError, match=words):
        visa.read_class(visa_root, "candle")


def test_visa_without_a_table(tmp_path: Path, capsys) -> None:
    (tmp_path / "x/candle").mkdir(parents=True)
    status = run(tmp_path / "x", tmp_path / "out", "--dataset=visa")
    expect_one_line(capsys, status, "layout of VisA", "split_csv/1cls.csv", "found candle/")


# MPDD, whose layout is MVTec AD's


def test_mpdd_is_read_whole(data_root: Path, tmp_path: Path) -> None:
    assert LAYOUTS["mpdd"].read_class(data_root, "tiles") == mvtec.read_class(data_root, "tiles")
    save = tmp_path / "out"
    argv = [f"--data_path={data_root}", f"--save_path={save}", "--weights=random"]
    from utils.cli.main import main

    options = ["--dataset=mpdd", "--resize=64", "--num_workers=0", "--embedding_dim=12"]
    assert main("resnet18", [*argv, *options]) == 0
    text = (save / "resnet18_rd12_mpdd_untrained/results.json").read_text()
    assert '"crop": 64' in text


# Rd-MVTec AD


def test_a_random_version_is_the_same_wherever_the_data_lie() -> None:
    how = RandomPreprocessing(256, 224, version=2)
    one = how.of(Path("/a/tiles/train/good/000.png"))
    assert one == how.of(Path("b/c/tiles/train/good/000.png"))
    assert one != how.of(Path("/a/tiles/train/good/001.png"))
    assert one != RandomPreprocessing(256, 224, version=3).of(Path("/a/tiles/train/good/000.png"))


def test_angles_and_places_fill_their_ranges() -> None:
    how = RandomPreprocessing(256, 224)
    placed = [how.of(Path(f"x/test/good/{i}.png")) for i in range(500)]
    angles = np.array([one.angle for one in placed])
    assert -10 <= angles.min() < -9.5 and 9.5 < angles.max() <= 10
    assert abs(angles.mean()) < 1
    assert {one.top for one in placed} == {one.left for one in placed} == set(range(33))


def test_a_mask_follows_its_image(tmp_path: Path) -> None:
    folder = tmp_path / "tiles/test/spot"
    save_mask(folder / "000.png", side=96)
    save_mask(tmp_path / "mask.png", side=96)
    how = RandomPreprocessing(96, 80, version=1)
    image, mask = read_sample(Sample(folder / "000.png", "spot", tmp_path / "mask.png"), how)
    bright = image[0] > 127
    assert image.shape == (3, 80, 80)
    assert mask.sum() > 80
    overlap = (bright & mask).sum() / (bright | mask).sum()
    assert overlap > 0.85  # they differ along the edges, where one is bicubic


def test_what_is_turned_and_where() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[5:10, 28:33] = 200  # upper right
    still = Placed(40, 30, angle=0.0, top=3, left=8).crop_of(pixels)
    assert still[0, 2:7, 20:25].min() == 200 and (still[0] > 0).sum() == 25
    turned = Placed(40, 40, angle=10.0).crop_of(pixels)
    rows, columns = np.nonzero(turned[0].numpy() > 100)
    # Counter-clockwise about the centre (20, 20): a point to the upper right goes up and left.
    assert rows.mean() < 7 and columns.mean() < 30
    assert turned[0, 0, 0] == 0


def test_rd_mvtec_runs_and_says_its_version(data_root: Path, tmp_path: Path) -> None:
    options = ("--dataset=rd_mvtec", "--rd_version=3", f"--image_cache={tmp_path / 'cache'}")
    assert run(data_root, tmp_path / "out", *options) == 0
    first = result_rows(tmp_path / "out/resnet18_rd12_rd_mvtec3_untrained")["tiles"]
    assert run(data_root, tmp_path / "again", *options) == 0
    again = result_rows(tmp_path / "again/resnet18_rd12_rd_mvtec3_untrained")["tiles"]
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def test_versions_do_not_share_cached_crops(data_root: Path, tmp_path: Path) -> None:
    sample = mvtec.read_class(data_root, "tiles").train[0]
    crops = [
        ImageCache(tmp_path / "cache", preprocessing_of("rd_mvtec", 64, 56, version)).read(sample)
        for version in (0, 1, 0)
    ]
    assert crops[0][0].equal(crops[2][0])
    assert not crops[0][0].equal(crops[1][0])


# ShanghaiTech Campus


def test_shanghaitech(stc_root: Path, tmp_path: Path) -> None:
    assert shanghaitech.find_classes(stc_root) == ["01"]
    item = shanghaitech.read_class(stc_root, "01")
    assert (len(item.train), len(item.test), item.has_masks) == (7, 8, True)
    assert item.path_of(item.test[6]) == "testing/frames/01_0015/002.jpg"
    assert [sample.is_defective for sample in item.test] == 2 * [False, False, True, True]
    masks = [read_sample(sample, Preprocessing(SIDE, SIDE))[1] for sample in item.test]
    assert [bool(mask.any()) for mask in masks] == 2 * [False, False, True, True]
    assert run(stc_root, tmp_path / "out", "--dataset=shanghaitech") == 0
    folder = tmp_path / "out/resnet18_rd12_shanghaitech_untrained"
    assert float(result_rows(folder)["01"]["pixel_auroc"]) > 0.8
    assert len(list((folder / "figures/01").iterdir())) == 8
    assert (folder / "figures/01/abnormal_01_0015_002.png").is_file()


def test_frames_are_in_the_order_of_their_numbers(stc_root: Path) -> None:
    folder = stc_root / "testing/frames/01_0014"
    for old, new in (("000", "998"), ("001", "999"), ("002", "1000"), ("003", "1001")):
        (folder / f"{old}.jpg").rename(folder / f"{new}.jpg")
    test = shanghaitech.read_class(stc_root, "01").test[:4]
    assert [sample.path.stem for sample in test] == ["998", "999", "1000", "1001"]
    assert [sample.is_defective for sample in test] == [False, False, True, True]


def test_frame_labels_may_be_missing(stc_root: Path) -> None:
    before = shanghaitech.read_class(stc_root, "01")
    (stc_root / "testing/test_frame_mask/01_0014.npy").unlink()
    assert shanghaitech.read_class(stc_root, "01").test == before.test


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("test_pixel_mask/01_0014.npy", None, "no masks for"),
        ("test_pixel_mask/01_0014.npy", np.zeros((3, SIDE, SIDE)), r"shape \(3, 48, 48\)"),
        ("test_pixel_mask/01_0014.npy", np.zeros((4, 9, 9)), r"need \(4, 48, 48\)"),
        ("test_frame_mask/01_0014.npy", np.zeros(5), "there are 4 frames"),
        ("test_pixel_mask/01_0014.npy", "not an array", "cannot be read"),
        ("test_pixel_mask/01_0014.npy", np.full((4, SIDE, SIDE), "x"), "not numbers"),
    ],
)
def test_shanghaitech_with_bad_masks(stc_root: Path, file: str, content, words: str) -> None:
    path = stc_root / "testing" / file
    path.unlink()
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError, match=words):
        shanghaitech.read_class(stc_root, "01")


def write_video(path: Path, n_frames: int) -> None:
    """Frame i is grey of level 10 i, with a bright spot."""
    av = pytest.importorskip("av", reason="PyAV is not installed (requirements-video.txt)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(n_frames):
            pixels = np.full((64, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_videos_are_read_frame_by_frame(stc_root: Path) -> None:
    video = stc_root / "training/videos/01_003.avi"
    write_video(video, 20)
    item = shanghaitech.read_class(stc_root, "01")
    frames = [sample for sample in item.train if sample.frame is not None]
    assert [sample.frame for sample in frames] == list(range(20))
    assert item.path_of(frames[7]) == "training/videos/01_003.avi#7"
    for index in (0, 1, 5, 19, 3, 3, 4, 0):  # forward, backward, the same again
        image, _ = read_sample(frames[index], Preprocessing(32, 32))
        assert abs(float(image.float().mean()) - 10 * index) < 4, index
    with pytest.raises(DataError, match="ends after 20 frames"):
        read_frame(video, 20)


def test_workers_read_videos_that_their_parent_has_read(stc_root: Path) -> None:
    write_video(stc_root / "training/videos/01_003.avi", 20)
    item = shanghaitech.read_class(stc_root, "01")
    how = Preprocessing(32, 32)
    for workers in (0, 2):
        stream = ImageStream([item], how, batch_size=3, num_workers=workers)
        images = torch.cat([batch.images for batch in stream.take(len(item.train))])
        levels = images[-20:].float().mean(dim=(1, 2, 3))
        assert torch.allclose(levels, 10.0 * torch.arange(20), atol=4)
        stream.close()


def test_extracted_frames_go_before_their_video(stc_root: Path) -> None:
    write_video(stc_root / "training/videos/01_001.avi", 5)
    assert all(s.frame is None for s in shanghaitech.read_class(stc_root, "01").train)


def test_a_damaged_video_is_named(stc_root: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("av", reason="PyAV is not installed (requirements-video.txt)")
    (stc_root / "training/videos").mkdir()
    (stc_root / "training/videos/01_004.avi").write_bytes(b"RIFF no video")
    status = run(stc_root, tmp_path / "out", "--dataset=shanghaitech")
    expect_one_line(capsys, status, "01_004.avi cannot be read")


# All of them


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="found pictures/"):
        choose_classes(LAYOUTS[name], tmp_path, None)
    with pytest.raises(DataError, match="does not exist"):
        choose_classes(LAYOUTS[name], tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset=btad"], "needs --data_path"),
        (["--rd_version=1"], "applies to --dataset rd_mvtec only"),
        (["--dataset=cifar"], "'cifar' is unknown; expected one of mvtec"),
        (["--dataset=rd_mvtec", "--rd_version=5"], "from 0 to 4"),
    ],
)
def test_options_of_data_sets(options: list[str], words: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(None, tmp_path / "out", *options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_crop_is_the_data_sets(data_root: Path) -> None:
    from utils.cli.run_options import parse_run_options

    for dataset, crop in (("rd_mvtec", 224), ("visa", 256), ("shanghaitech", 256), ("mvtec", None)):
        argv = [f"--data_path={data_root}", f"--dataset={dataset}"]
        assert parse_run_options("resnet18", argv).crop == crop  # None: as each class has it
    assert parse_run_options("resnet18", ["--crop=none", "--resize=99"]).crop == 99


def test_class_digests_notice_a_change(data_root: Path) -> None:
    before = mvtec.read_class(data_root, "tiles").digest()
    assert mvtec.read_class(data_root, "tiles").digest() == before
    draw_class(data_root, "other")
    assert mvtec.read_class(data_root, "tiles").digest() == before
    draw_image(77).save(data_root / "tiles/train/good/000.png")
    assert mvtec.read_class(data_root, "tiles").digest() != before
