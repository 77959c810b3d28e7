"""The metrics by name, for tables and for the command line. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

PRO_LIMIT = 0.3  # false positive rate up to which PRO is integrated (Bergmann et al. 2020)
STRICT_PRO_LIMIT = 0.05  # of ``pro_fpr5`` and ``spro``, as MVTec LOCO AD and MVTec AD 2 have it
RECALL_RATES = {"image_recall_fpr1": 0.01, "image_recall_fpr5": 0.05}
PIMO_RATES = (1e-5, 1e-4)  # of the pixels of good images (Bertoldo et al. 2024)

DEFAULT_METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1",
    "pro",
    "false_alarms",
    "detections",
)
METRICS: Mapping[str, str] = {
    "image_auroc": "area under the ROC curve of images",
    "image_ap": "average precision of images",
    "image_f1": "best F1 of images over all thresholds (oracle)",
    "pixel_auroc": "area under the ROC curve of pixels",
    "pixel_ap": "average precision of pixels",
    "pixel_f1": "best F1 of pixels over all thresholds (oracle)",
    "pro": f"per-region overlap up to a false positive rate of {PRO_LIMIT:g}",
    "false_alarms": "share of good images above the image threshold",
    "detections": "share of defective images above the image threshold",
    "image_recall_fpr1": "share of defective images found at a false positive rate of 1 %",
    "image_recall_fpr5": "the same at 5 %",
    "pro_fpr5": f"per-region overlap up to a false positive rate of {STRICT_PRO_LIMIT:g}",
    "spro": "saturated per-region overlap up to the same, where the data set has what is enough",
    "aupimo": "per-image overlap at false positive rates from 1e-5 to 1e-4 of good images",
    "pixel_f1_calibrated": "F1 of pixels at the pixel threshold, which no defect has a part in",
    "pixel_iou_calibrated": "intersection over union of pixels at the pixel threshold",
}
