"""The one rule by which a run resumes, and what is written when it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import result, run

from datasets.loading.labelled import ImageStream
from utils.errors import OptionError
from utils.experiment.record_store import RecordStore, read_records
from utils.experiment.run import always


def store(folder: Path, **settings: object) -> RecordStore:
    return RecordStore(
        folder, {"sigma": 4.0, "layers": ("a", "b")} | settings, "class", "delete it"
    )


def test_a_record_counts_if_it_is_whole_and_of_the_same(tmp_path: Path) -> None:
    ours = store(tmp_path)
    assert not ours.is_finished("mvtec/tiles", "d1")
    ours.finish("mvtec/tiles", "d1", {"numbers": [1]})
    assert ours.is_finished("mvtec/tiles", "d1")
    with pytest.raises(OptionError, match="class mvtec/tiles .*digest d1 then, d2 now"):
        ours.is_finished("mvtec/tiles", "d2")
    with pytest.raises(OptionError, match=r"sigma 4.0 then, 2.0 now.*or delete it"):
        store(tmp_path, sigma=2.0).is_finished("mvtec/tiles", "d1")
    assert [record.content["numbers"] for record in read_records(tmp_path)] == [[1]]


@pytest.mark.parametrize("change", [{"version": 1}, {"name": "other"}, {"settings": 3}])
def test_any_other_record_is_done_again(change: dict, tmp_path: Path) -> None:
    ours = store(tmp_path)
    ours.finish("tiles", "d1", {})
    path = tmp_path / "tiles.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not ours.is_finished("tiles", "d1")
    path.write_text("half a rec")
    assert not ours.is_finished("tiles", "d1")


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
