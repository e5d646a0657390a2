"""Small made-up sets, written in each format with code that shares nothing with the readers."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np

from fittingroom.data.arrays import Images
from fittingroom.data.catalog import Surroundings


def made_images(count: int = 12, side: int = 6, channels: int = 1, classes: int = 3, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    labels = np.sort(np.arange(count, dtype=np.int64) % classes)
    return Images(generator.integers(0, 256, (count, side, side, channels), dtype=np.uint8), labels)


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def idx_image_bytes(images: Images) -> bytes:
    return idx_bytes(images.pixels[..., 0] if images.pixels.shape[3] == 1 else images.pixels)


def write_idx(folder: Path, train: Images, test: Images | None = None, *, compressed: bool = True, offset: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, images in (("train", train), ("t10k", test)):
        if images is not None:
            contents = {"images-idx3": idx_image_bytes(images), "labels-idx1": idx_bytes(images.labels + offset)}
            for kind, content in contents.items():
                name = f"{prefix}-{kind}-ubyte"
                (folder / (f"{name}.gz" if compressed else name)).write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    return folder


def csv_bytes(images: Images, header: bool = True) -> bytes:
    flat = images.pixels.reshape(len(images), -1)
    lines = [",".join(["label", *(f"pixel{i}" for i in range(1, flat.shape[1] + 1))])] if header else []
    lines += [",".join(map(str, [label, *row])) for label, row in zip(images.labels.tolist(), flat.tolist(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


def npz_bytes(train: Images, test: Images | None = None) -> bytes:
    arrays = {"x_train": _plain(train), "y_train": train.labels.astype(np.uint8)}
    if test is not None:
        arrays |= {"x_test": _plain(test), "y_test": test.labels.astype(np.uint8)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _plain(images: Images) -> np.ndarray:
    return images.pixels[..., 0] if images.pixels.shape[3] == 1 else images.pixels


def write_pictures(folder: Path, images: Images, names: tuple[str, ...] | None = None, suffix: str = ".png") -> Path:
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
        path = folder / (names[label] if names else str(label)) / f"{number:04d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
    return folder


def nowhere(folder: Path, **environ: str) -> Surroundings:
    """Surroundings in which nothing is found that a test did not put there."""
    return Surroundings(environ, folder / "home", folder / "cwd", folder / "cache")
