"""Writes the model, the figures and the scores of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from datasets.layouts import preprocessing_of
from datasets.loading.defect_regions import DefectRegion, defect_regions
from datasets.loading.empty_masks import empty_masks
from datasets.region_of_interest import ClassRegion
from datasets.types import AnomalyClass
from padim.errors import PaDiMError
from padim.model import PaDiM
from padim.preprocessing import Preprocessing
from utils.evaluation.class_record import ClassRecord, skipped_files
from utils.evaluation.class_scores import ClassScores
from utils.evaluation.drift import Drift
from utils.evaluation.image_checksum import checksum_of
from utils.evaluation.looked_at import region_notes
from utils.evaluation.measure import measure_class
from utils.evaluation.training_images import (
    checksums,
    duplicate_notes,
    equal_images,
    judge_training,
)
from utils.experiment.configuration import ModelSpec
from utils.experiment.data_report import summary_of
from utils.experiment.options import RunOptions
from utils.experiment.stored_class import MODEL, SCORES, TRAINING
from utils.report.class_figures import draw_class_figures
from utils.report.tables import scores_csv, training_csv


class RunClassWriter:
    """Writes the files of one class.

    Args:
        item: the class.
        digest: checksum of the names, sizes and times of its files.
        options: of the run.
        crop: side of the crop of the class.
        region: where to look; None for everywhere.
        stage: the folder of its files.
        saver: the thread that writes the model, then makes the checksum of the images.
    """

    def __init__(
        self,
        item: AnomalyClass,
        digest: str,
        options: RunOptions,
        crop: int,
        region: ClassRegion | None,
        stage: Path,
        saver: ThreadPoolExecutor,
    ) -> None:
        self._item, self._digest, self._options, self._crop = item, digest, options, crop
        self._region, self._stage, self._saver = region, stage, saver
        self._saved: Future[None] | None = None
        self._checksum: Future[str] | None = None
        self._record: ClassRecord | None = None
        self._train: Sequence[bytes] = ()

    def fitted(self, model: PaDiM, train: Sequence[bytes]) -> None:
        """Start writing the model file in the background, while the test images are scored."""
        self._train = train
        if model.is_gathered:
            self._save(model)

    def scored(
        self, spec: ModelSpec, model: PaDiM, scores: ClassScores, examples: torch.Tensor | None
    ) -> None:
        """Measure the class, draw its figures and write its scores."""
        if self._saved is None:
            self._save(model)
        item, options = self._item, self._options
        self._checksum = self._saver.submit(checksum_of, item, self._digest)
        regions, problem = self._regions()
        record = measure_class(item, scores, model.calibration, options.false_alarm_rate, regions)
        record = replace(record, notes=(*record.notes, *problem))
        record = self._with_training(self._with_data(record, scores), model, scores)
        figures = draw_class_figures(record, item, scores, options.figures, self._stage)
        self._record = record.with_figures(figures)
        self._write(SCORES, scores_csv(self._record))
        self._write(TRAINING, training_csv(self._record))

    def _regions(self) -> tuple[Sequence[DefectRegion], Sequence[str]]:
        """The single defects, if the data set has them; or why they cannot be read."""
        if not self._item.saturations:
            return (), ()
        try:
            return defect_regions(self._item, self._preprocessing()), ()
        except PaDiMError as error:  # all other numbers stay
            return (), (f"no spro: {error}",)

    def _preprocessing(self) -> Preprocessing:
        options = self._options
        return preprocessing_of(options.dataset, options.resize, self._crop, options.rd_version)

    def _with_data(self, record: ClassRecord, scores: ClassScores) -> ClassRecord:
        """The record with remarks on the images and masks."""
        item, options = self._item, self._options
        unseen = empty_masks(item, scores.masks, self._preprocessing())
        return replace(
            record,
            data=summary_of(item, options.dataset, options.resize, self._crop),
            skipped=skipped_files(item),
            notes=(
                *item.remarks,
                *region_notes(item, self._region, scores.masks),
                *record.notes,
                *unseen,
            ),
        )

    def _with_training(self, record: ClassRecord, model: PaDiM, scores: ClassScores) -> ClassRecord:
        """The record with the training images, and with remarks on equal images."""
        same = equal_images(self._item, self._train, checksums(scores.images))
        return replace(
            record,
            training=judge_training(self._item, model.calibration, same),
            notes=(*record.notes, *duplicate_notes(self._item, same), *_drift(record, model)),
        )

    def _write(self, pattern: str, text: str) -> None:
        path = self._stage / pattern.format(self._item.name)
        path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")

    def results(self) -> Sequence[Mapping[str, float | None]]:
        """The metrics of the class."""
        return [] if self._record is None else [self._record.metrics]

    def finish(self) -> ClassRecord:
        """Wait for the model file; the record of the class."""
        if self._saved is None or self._checksum is None or self._record is None:
            raise RuntimeError(f"class {self._item.name} has not been scored")
        self._saved.result()
        return replace(self._record, image_checksum=self._checksum.result())

    def _save(self, model: PaDiM) -> None:
        path = self._stage / MODEL.format(self._item.name)
        is_half = self._options.model_precision == "float16"
        self._saved = self._saver.submit(model.save, path, is_half)


def _drift(record: ClassRecord, model: PaDiM) -> list[str]:
    """The remark on good test images that differ from the training images."""
    if model.calibration is None or record.image_threshold is None:
        return []
    good = (image for image in record.images if image.label == 0)
    p_values = Counter(image.p_value for image in good if image.p_value is not None)
    n_training = len(model.calibration.image_scores)
    line = Drift.of(p_values, record.image_threshold.rate, n_training).line("the good test images")
    return [] if line is None else [f"{line}: they are not like the training images"]
