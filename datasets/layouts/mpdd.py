"""MPDD (Metal Parts Defect Detection) in its published layout, which is MVTec AD's.

    <root>/<class>/train/good/<name>.png
    <root>/<class>/test/good/<name>.png
    <root>/<class>/test/<defect>/<name>.png
    <root>/<class>/ground_truth/<defect>/<name>_mask.png

Its parts lie anywhere in the image, so by default nothing is cropped off.
"""

from datasets.layouts.mvtec import find_classes, read_class

__all__ = ["find_classes", "read_class"]
