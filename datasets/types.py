"""What a data set consists of: samples, and classes of them; and the error for bad data."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from padim.config import IMAGE_SUFFIXES
from padim.errors import PaDiMError
from padim.reading.folders import Skipped

GOOD = "good"
REGION = "region.png"  # in the folder of a class: a mask, white where to look
ENDINGS = ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)


class DataError(PaDiMError):
    """The data given cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Sample:
    """One image of a class.

    Attributes:
        path: the image file, or a video.
        defect: ``good``, or the kind of defect.
        mask: the ground truth file; None for a good image, and in a class without masks.
        frame: which frame of a video; None for an image file.
        mask_frame: which mask of a ``.npy`` file of many; None for an image file.
        more_masks: further ground truth files; what one of the masks shows is defective.
    """

    path: Path
    defect: str = GOOD
    mask: Path | None = None
    frame: int | None = None
    mask_frame: int | None = None
    more_masks: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the sample: the image, then its masks."""
        return (self.path, *((self.mask,) if self.mask is not None else ()), *self.more_masks)

    @property
    def is_defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class Saturation:
    """How much of a defect has to be found until all of it counts as found (sPRO).

    Attributes:
        label: the value of the pixels of such defects in their mask files.
        threshold: pixels of the mask file, or a share of the defect's pixels.
        is_relative: whether it is a share.
    """

    label: int
    threshold: float
    is_relative: bool


@dataclass(frozen=True)
class AnomalyClass:
    """One class of a data set: its training images and its labelled test images.

    Attributes:
        name: of the class.
        root: the folder that its images are named from.
        train: training images, all good.
        test: test images; none in a class that is fitted only.
        skipped: files in the folders of the class that are not used.
        remarks: what the reader of the numbers must know of the files, a sentence each.
        saturations: of the kinds of defects that the data set tells apart; for most none.
    """

    name: str
    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    saturations: tuple[Saturation, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether every defective test image has a mask, and there is at least one."""
        defective = [sample for sample in self.test if sample.is_defective]
        return bool(defective) and all(sample.mask is not None for sample in defective)

    def path_of(self, sample: Sample) -> str:
        """The name of a sample in tables: its path from ``root``, and the frame."""
        path = sample.path.relative_to(self.root).as_posix()
        return path if sample.frame is None else f"{path}#{sample.frame}"

    def file_name(self, path: Path) -> str:
        """The name of any file of the class: its path from the folder of the data set."""
        inside = path.relative_to(self.root)
        return (self.name / inside if self.root.name == self.name else inside).as_posix()

    def digest(self, with_times: bool = True) -> str:
        """A checksum of the names, sizes and times of the files: it reveals changed data.

        Args:
            with_times: if False, a copy of the data has the same checksum.

        Raises:
            DataError: a file is gone.
        """
        summary = hashlib.sha256(repr(self.saturations).encode() if self.saturations else b"")
        for split, samples in (("train", self.train), ("test", self.test)):
            files = ((sample.defect, file) for sample in samples for file in sample.files)
            for defect, file in dict.fromkeys(files):  # a video once, not once a frame
                try:
                    stat = file.stat()
                except OSError as error:
                    raise DataError(f"{file} cannot be read ({error.strerror})") from error
                time = f":{stat.st_mtime_ns}" if with_times else ""
                line = f"{split}/{defect}/{file.name}:{stat.st_size}{time}"
                summary.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return summary.hexdigest()[:16]

    def check_unchanged(self, digest: str) -> None:
        """Check that the files are those of an earlier ``digest``.

        Raises:
            DataError: they are not, so it is unknown which ones were read.
        """
        if self.digest() != digest:
            raise DataError(
                f"the image files of class {self.name} have changed while they were read: run again"
            )


def counted(skipped: Iterable[Skipped]) -> str:
    """How many files are skipped for each reason, such as ``3 ending .gif, 1 hidden``."""
    counts = Counter(one.reason for one in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def checked_class(
    name: str,
    root: Path,
    train: Sequence[Sample],
    test: Sequence[Sample],
    train_place: Path,
    test_place: str,
    skipped: Sequence[Skipped] = (),
    remarks: Sequence[str] = (),
) -> AnomalyClass:
    """Make the class of these samples.

    Args:
        name, root, train, test, skipped, remarks: as ``AnomalyClass`` has them.
        train_place, test_place: the places that were searched, for messages. ``test_place`` is
            empty if the class may be without test images.

    Raises:
        DataError: too few training images, or no test image.
    """
    unused = f"; not used in {root}: {counted(skipped)}" if skipped else ""
    if len(train) < 2:
        raise DataError(
            f"class {name}: {len(train)} training image{'s' * (len(train) != 1)} in "
            f"{train_place}; a covariance needs at least 2 ({ENDINGS}){unused}"
        )
    if not test and test_place:
        raise DataError(f"class {name}: no test image in {test_place}{unused}")
    return AnomalyClass(name, root, tuple(train), tuple(test), tuple(skipped), tuple(remarks))
