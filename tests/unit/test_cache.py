"""Crops that are kept: the same bytes, decoded once, whoever shares the folder."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import draw_image, result, run

from datasets.layouts.mvtec import read_class
from datasets.loading import cache as cache_module
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.labelled import ImageStream
from datasets.types import DataError
from padim.preprocessing import Preprocessing

SMALL = Preprocessing(resize=40, crop=32)
N_MUTATIONS = int(os.environ.get("MUTATIONS", 60))


def read_all(root: Path, folder: Path | None, workers: int = 0) -> list:
    item = read_class(root, "tiles")
    stream = ImageStream([item], SMALL, batch_size=4, num_workers=workers, cache=folder)
    batches = [*stream.take(len(item.train)), *stream.take(len(item.test))]
    return [(batch.images, batch.masks) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_second_time_nothing_is_decoded(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    plain = read_all(data_root, None)
    assert any(masks.any() for _, masks in plain)
    first = read_all(data_root, tmp_path / "kept", workers)
    monkeypatch.setattr(cache_module, "read_sample", None)  # a call of it would fail
    second = read_all(data_root, tmp_path / "kept", workers)
    for one, two, three in zip(plain, first, second, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert a.equal(b)
            assert a.equal(c)
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".crop"}
    assert len(files) == 12


def test_a_changed_image_or_option_is_decoded_anew(data_root: Path, tmp_path: Path) -> None:
    sample = read_class(data_root, "tiles").test[-1]
    cache = ImageCache(tmp_path / "kept", SMALL)
    before, _ = cache.read(sample)
    other = ImageCache(tmp_path / "kept", Preprocessing(resize=48, crop=32))
    assert not other.read(sample)[0].equal(before)

    draw_image(999).save(sample.path)
    os.utime(sample.path, ns=(1, 1))
    after, _ = cache.read(sample)
    assert after.equal(read_sample(sample, SMALL)[0])
    assert not after.equal(before)


def damages(content: bytes) -> dict[str, bytes]:
    flipped, masked = bytearray(content), bytearray(content)
    flipped[10] ^= 1
    flipped[700] ^= 128
    masked[3 * 32 * 32 + 5] = 1
    return {
        "cut": content[:100],
        "empty": b"",
        "one byte less": content[:-1],
        "one byte more": content + b"x",
        "two flipped bytes": bytes(flipped),
        "a defect in the mask": bytes(masked),
        "another checksum": content[:-1] + bytes([content[-1] ^ 1]),
        "zeros": bytes(len(content)),
    }


def test_a_damaged_file_is_noticed_and_made_again(data_root: Path, tmp_path: Path) -> None:
    sample = read_class(data_root, "tiles").test[0]
    cache = ImageCache(tmp_path, SMALL)
    whole, mask = cache.read(sample)
    (path,) = tmp_path.rglob("*.crop")
    content = path.read_bytes()
    for number, (what, damaged) in enumerate(damages(content).items(), 1):
        path.write_bytes(damaged)
        for _ in range(2):
            found = cache.read(sample)
            assert found[0].equal(whole) and found[1].equal(mask), what
        assert path.read_bytes() == content, what
        assert cache.n_damaged.value == number, what


def test_random_damage_is_noticed(data_root: Path, tmp_path: Path) -> None:
    sample = read_class(data_root, "tiles").test[-1]
    cache = ImageCache(tmp_path, SMALL)
    whole, _ = cache.read(sample)
    (path,) = tmp_path.rglob("*.crop")
    content, draw = path.read_bytes(), random.Random(0)
    for number in range(N_MUTATIONS):
        damaged = bytearray(content[: draw.choice((len(content), draw.randrange(len(content))))])
        for _ in range(draw.randint(1, 3)):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= draw.randrange(1, 256)
        if damaged != content:
            path.write_bytes(damaged)
        assert cache.read(sample)[0].equal(whole), number


def test_damage_is_counted_in_all_workers_and_said_once(
    data_root: Path, tmp_path: Path, capsys
) -> None:
    options = ("--image_cache", str(tmp_path / "kept"), "--figures=none", "--num_workers=2")
    assert run(data_root, tmp_path / "first", *options) == 0
    files = sorted((tmp_path / "kept").rglob("*.crop"))
    for path in files[:5]:
        path.write_bytes(path.read_bytes()[::-1])
    (files[0].parent / ".partial-mine").touch()
    capsys.readouterr()
    assert run(data_root, tmp_path / "second", *options) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "--image_cache" in line]
    assert said == [f"!!! --image_cache {tmp_path / 'kept'}: 5 damaged files, made again"]
    scores = [result(tmp_path / name) / "scores/tiles.csv" for name in ("first", "second")]
    assert scores[0].read_bytes() == scores[1].read_bytes()


def test_many_may_write_the_same_file(data_root: Path, tmp_path: Path) -> None:
    sample = read_class(data_root, "tiles").test[-1]
    cache, (image, mask) = ImageCache(tmp_path / "kept", SMALL), read_sample(sample, SMALL)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(cache.read, [sample] * 64):
            assert found[0].equal(image)
            assert found[1].equal(mask)
    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 1


def test_a_folder_that_cannot_be_written_is_named(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sample = read_class(data_root, "tiles").train[0]
    with pytest.raises(DataError, match="--image_cache .*file cannot be written"):
        ImageCache(tmp_path / "file", SMALL).read(sample)
