"""A raw dataset as nnU-Net wants it: ellipsoids with a lesion inside, in noise, as NIfTI files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

NUMBER = 999
NAME = f"Dataset{NUMBER}_Ellipsoids"
LABELS = {"background": 0, "organ": 1, "lesion": 2}


def ellipsoid(size: int, center: np.ndarray, radii: np.ndarray) -> np.ndarray:
    axes = np.indices((size,) * 3, dtype=np.float32)
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii)) < 1


def make_case(size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image in float32 and its labels in uint8, [size, size, size]."""
    center = size * generator.uniform(0.4, 0.6, 3)
    radii = size * generator.uniform(0.22, 0.36, 3)
    organ = ellipsoid(size, center, radii)
    lesion = organ & ellipsoid(size, center + 0.35 * radii * generator.uniform(-1, 1, 3), radii / 2)
    image = 0.5 * organ + lesion + generator.normal(0, 0.15, (size,) * 3)
    return image.astype(np.float32), organ.astype(np.uint8) + lesion.astype(np.uint8)


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def load(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def make_dataset(raw: Path, size: int, training_cases: int = 5, seed: int = 0) -> None:
    """Writes `raw`/Dataset999_Ellipsoids: cases to train on, and one more in imagesTs, with its labels in labelsTs.

    Five cases are the fewest that nnU-Net's five-fold cross-validation splits.
    """
    generator = np.random.default_rng(seed)
    for number in range(training_cases + 1):
        part = "Tr" if number < training_cases else "Ts"
        image, labels = make_case(size, generator)
        save(image, raw / NAME / f"images{part}" / f"case_{number:03}_0000.nii.gz")
        save(labels, raw / NAME / f"labels{part}" / f"case_{number:03}.nii.gz")
    description = {
        "channel_names": {"0": "synthetic"},
        "labels": LABELS,
        "numTraining": training_cases,
        "file_ending": ".nii.gz",
    }
    (raw / NAME / "dataset.json").write_text(json.dumps(description, indent=2))
