"""Crops that are kept: the same bytes, decoded once, whoever shares the folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import draw_image

from datasets.layouts.mvtec import read_class
from datasets.loading import cache as cache_module
from datasets.loading.cache import ImageCache, read_sample
from datasets.loading.labelled import ImageStream
from datasets.types import DataError
from padim.preprocessing import Preprocessing

SMALL = Preprocessing(resize=40, crop=32)


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


def test_a_file_cut_short_is_made_again(data_root: Path, tmp_path: Path) -> None:
    sample = read_class(data_root, "tiles").test[0]
    cache = ImageCache(tmp_path, SMALL)
    whole, _ = cache.read(sample)
    (path,) = tmp_path.rglob("*.crop")
    path.write_bytes(path.read_bytes()[:100])
    assert cache.read(sample)[0].equal(whole)
    assert path.stat().st_size == 4 * 32 * 32


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
