"""The one rule by which a run resumes, and what is written when it is stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from helpers import class_record, result, run
from mutations import mutate

from datasets.loading.labelled import ImageStream
from utils.errors import OptionError
from utils.experiment.record_store import RecordError, RecordStore, read_record, read_records
from utils.experiment.run import always
from utils.system.console import one_line

N_MUTATIONS = int(os.environ.get("MUTATIONS", 120))


def store(folder: Path, **settings: object) -> RecordStore:
    return RecordStore(
        folder, {"sigma": 4.0, "layers": ("a", "b")} | settings, "class", "delete it"
    )


def test_a_record_counts_if_it_is_whole_and_of_the_same(tmp_path: Path) -> None:
    ours = store(tmp_path)
    assert read_record(tmp_path, "mvtec/tiles") is None
    ours.finish("mvtec/tiles", "d1", {"numbers": [1]}, {"a.png": 3})
    record = read_record(tmp_path, "mvtec/tiles")
    assert record is not None
    ours.check(record)
    ours.check(record, "d1")
    assert (record.content["numbers"], record.outputs) == ([1], {"a.png": 3})
    with pytest.raises(OptionError, match="class mvtec/tiles .*digest d1 then, d2 now"):
        ours.check(record, "d2")
    with pytest.raises(OptionError, match=r"sigma 4.0 then, 2.0 now.*or delete it"):
        store(tmp_path, sigma=2.0).check(record, "d1")
    assert read_records(tmp_path) == ([record], {})


def test_a_record_is_damaged_or_read_back_the_same(tmp_path: Path) -> None:
    """Whatever was done to its bytes or its values; nothing else is ever raised."""
    ours, path = store(tmp_path), tmp_path / "tiles.json"
    ours.finish("tiles", "d1", class_record("tiles").to_json() | {"numbers": [0.1, None, True]})
    whole, content = read_record(tmp_path, "tiles"), path.read_bytes()
    draw = random.Random(0)
    for number in range(N_MUTATIONS):
        done, mutated = mutate(content, draw)
        path.write_bytes(mutated)
        try:
            found = read_record(tmp_path, "tiles")
        except RecordError as error:
            assert str(path) in str(error), (number, done)
            assert one_line(str(error)) and len(str(error)) < 1000, (number, done)
        else:
            assert found == whole, (number, done)


def test_what_is_no_file_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "self.json").symlink_to("self.json")
    found, damaged = read_records(tmp_path)
    assert (found, set(damaged)) == ([], {"folder", "pipe", "self"})


def test_a_copied_record_does_not_count(tmp_path: Path) -> None:
    store(tmp_path).finish("tiles", "d1", {})
    for name in ("other", "sub/tiles"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "tiles.json", tmp_path / f"{name}.json")
    found, damaged = read_records(tmp_path)
    assert ([record.name for record in found], set(damaged)) == (["tiles"], {"other", "sub/tiles"})
    assert "it is the record of tiles" in str(damaged["other"])


def test_the_first_error_is_the_one_that_is_raised() -> None:
    def fail() -> None:
        raise OSError("the tables")

    with pytest.raises(ValueError, match="the images"), always(fail):
        raise ValueError("the images")
    with pytest.raises(OSError, match="the tables"), always(fail):
        pass


def test_a_finished_run_starts_no_workers(data_root: Path, tmp_path: Path, monkeypatch) -> None:
    """And every stream that was started is closed, also after an error."""
    open_streams = set()
    start, close = ImageStream.start, ImageStream.close
    monkeypatch.setattr(
        ImageStream, "start", lambda stream: open_streams.add(id(stream)) or start(stream)
    )
    monkeypatch.setattr(
        ImageStream, "close", lambda stream: open_streams.discard(id(stream)) or close(stream)
    )
    assert run(data_root, tmp_path / "out") == 0
    assert not open_streams
    program = json.loads((result(tmp_path / "out") / "results.json").read_text())["program"]
    assert set(program) == {"padim", "commit", "date", "command"}
    (data_root / "tiles/test/good/000.png").write_bytes(b"no image")
    assert run(data_root, tmp_path / "broken") == 2
    assert not open_streams
    save = tmp_path / "again"
    (data_root / "tiles/test/good/000.png").unlink()
    assert run(data_root, save) == 0
    monkeypatch.setattr(ImageStream, "start", lambda stream: pytest.fail("a worker was started"))
    assert run(data_root, save) == 0
