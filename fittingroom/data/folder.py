"""Folders of pictures: a folder per class, with or without `train/`, `validation/` and `test/` around them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fittingroom.data.arrays import DataSet, ImageArray, Images
from fittingroom.data.reading import MAX_BYTES, MAX_CLASSES
from fittingroom.data.resize import Fit, Size, fit_image
from fittingroom.errors import DataError, DataMissing, FittingRoomError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_folder", "read_image"]

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Which decoders may run; Pillow has others, some of which start further programs."""
GRAY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
MAX_PIXELS = 2**26
"""64 megapixels: more than any camera of a shop, less than what harms the machine."""
THREADS = 4


@dataclass(frozen=True)
class _Picture:
    path: Path
    label: int
    height: int
    width: int
    gray: bool


def read_folder(
    path: Path,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: Fit = "pad",
    with_test: bool = False,
) -> DataSet:
    """Read a folder of pictures; the names of the class folders, sorted, are the classes.

    Either `train/`, `validation/` (or `val/`, `valid/`) and `test/` stand in it, each with the class folders, or the class
    folders themselves. Pictures may lie deeper within their class folder. Hidden files, files that are no pictures by
    their suffix, and links that lead out of the folder are passed over; the last is said in the set's notices.

    Args:
        path: the folder.
        size: height and width to which all are brought; None where all have the same size, which is kept.
        channels: 1 (gray) or 3 (RGB); None takes gray where all are gray.
        fit: how a picture of other proportions is brought to ``size``: see `fit_image`.
        with_test: also read `test/`; without it that folder is not even listed.

    Raises:
        DataMissing: there is no such folder.
        DataError: no pictures, only one class, a class without pictures, or a picture that cannot be read or is enormous.
        UsageError: the pictures differ in size and no ``size`` was given.
    """
    if not path.is_dir():
        raise DataMissing(f"{path}: no such folder")
    folders = _split_folders(path)
    skipped: set[Path] = set()
    classes = _classes(folders["train"], path, skipped)
    pictures = {
        split: _pictures(folder, classes, path, skipped) for split, folder in folders.items() if split != "test" or with_test
    }
    _check_every_class(pictures["train"], classes, folders["train"])
    everything = [picture for part in pictures.values() for picture in part]
    size = size or _common_size(everything, path)
    channels = channels or (1 if all(picture.gray for picture in everything) else 3)
    parts = {split: _read_all(part, size, channels, fit, path) for split, part in pictures.items()}
    notices = (f"{path}: {len(skipped)} link(s) that lead out of the folder were not followed, {min(skipped)} for one",) if skipped else ()
    return DataSet(path.name, classes, parts["train"], parts.get("validation"), parts.get("test"), source=str(path), notices=notices)


def read_image(path: Path, size: Size | None = None, channels: int | None = None, fit: Fit = "pad") -> ImageArray:
    """Read one picture as it would be read within a folder: uint8 ``[height, width, channels]``.

    EXIF rotation is carried out, transparency laid on white, 16 bits brought to 8, CMYK and palettes to RGB.

    Raises:
        DataMissing: there is no such file.
        DataError: it cannot be read, or has more than 64 megapixels.
    """
    with _decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(path, size, channels, fit)


def _split_folders(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        present = [path / name for name in names if (path / name).is_dir()]
        if len(present) > 1:
            raise DataError(f"{path}: has both {present[0].name}/ and {present[1].name}/; keep one of them")
        if present:
            found[split] = present[0]
    if not found:
        return {"train": path}
    if "train" not in found:
        raise DataError(f"{path}: has {next(iter(found.values())).name}/ but no train/; put the training images there")
    return found


def _subfolders(folder: Path, root: Path, skipped: set[Path]) -> list[Path]:
    try:
        found = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    skipped.update(entry for entry in found if not _inside(entry, root))
    return [entry for entry in found if entry not in skipped]


def _classes(folder: Path, root: Path, skipped: set[Path]) -> tuple[str, ...]:
    names = tuple(entry.name for entry in _subfolders(folder, root, skipped))
    if not names:
        raise DataError(f"{folder}: no class folders in it; put the pictures of each class into a folder of its own")
    if len(names) == 1:
        raise DataError(f"{folder}: only one class, '{names[0]}'; telling classes apart takes at least two folders")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{folder}: {len(names):,} class folders, more than this program takes ({MAX_CLASSES:,})")
    return names


def _pictures(folder: Path, classes: tuple[str, ...], root: Path, skipped: set[Path]) -> list[_Picture]:
    """List the pictures of one split with what their headers say."""
    found: list[_Picture] = []
    for class_folder in _subfolders(folder, root, skipped):
        if class_folder.name not in classes:
            raise DataError(f"{class_folder}: no such class in the training images ({', '.join(classes)[:100]})")
        label = classes.index(class_folder.name)
        found += [_picture(file, label) for file in _files(class_folder, root, skipped)]
    if not found:
        raise DataError(f"{folder}: no pictures in its folders ({', '.join(sorted(SUFFIXES))})")
    return found


def _check_every_class(pictures: list[_Picture], classes: tuple[str, ...], folder: Path) -> None:
    present = {picture.label for picture in pictures}
    for label, name in enumerate(classes):
        if label not in present:
            raise DataError(f"{folder / name}: no pictures in it; put some there or remove the folder")


def _files(folder: Path, root: Path, skipped: set[Path]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if name.startswith(".") or file.suffix.lower() not in SUFFIXES:
                continue
            if _inside(file, root):
                yield file
            else:
                skipped.add(file)


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(root.resolve())


def _common_size(pictures: list[_Picture], root: Path) -> Size:
    sizes = sorted({(picture.height, picture.width) for picture in pictures})
    height, width = sizes[0]
    remedy = "say to which size they are to be brought, for example data.size = 64"
    if len(sizes) > 1:
        raise UsageError(f"{root}: the pictures differ in size, from {height}×{width} to {sizes[-1][0]}×{sizes[-1][1]}; {remedy}")
    if height > 1024 or width > 1024:
        raise UsageError(f"{root}: the pictures are large ({height}×{width}); {remedy}")
    return height, width


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a damaged picture brings about into one line that names it."""
    try:
        yield
    except FittingRoomError:
        raise
    except FileNotFoundError:
        raise DataMissing(f"{path}: no such file") from None
    except Exception as error:  # Pillow raises SyntaxError, struct.error, … on damaged files, beside OSError
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if type(error).__name__ == "UnidentifiedImageError":
            reason = f"its content is none of {', '.join(FORMATS)}"
        raise DataError(f"{path}: cannot be read as a picture ({reason}); mend or remove it") from None


def _open(path: Path) -> Image:
    """Open a picture, reading its header alone, unless it is enormous."""
    import PIL.Image

    try:
        image = PIL.Image.open(path, formats=FORMATS)
    except PIL.Image.DecompressionBombError:
        raise DataError(f"{path}: is enormous, more than {MAX_PIXELS >> 20} megapixels; make it smaller or remove it") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(f"{path}: is enormous, {image.width:,}×{image.height:,} pixels (more than {MAX_PIXELS >> 20} million); "
                        "make it smaller or remove it")
    return image


def _picture(path: Path, label: int) -> _Picture:
    with _decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path) as image:
            sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: a quarter turn
            height, width = (image.width, image.height) if sideways else (image.height, image.width)
            return _Picture(path, label, height, width, image.mode in GRAY_MODES)


def _read_all(pictures: list[_Picture], size: Size, channels: int, fit: Fit, root: Path) -> Images:
    needed = len(pictures) * size[0] * size[1] * channels
    if needed > MAX_BYTES:
        take = f"{len(pictures):,} pictures of {size[0]}×{size[1]} take {needed / 2**30:.0f} GiB"
        raise DataError(f"{root}: {take}; choose a smaller data.size")
    pixels: ImageArray = np.empty((len(pictures), *size, channels), np.uint8)

    def fill(index: int) -> None:
        path = pictures[index].path
        with _decoding(path):
            pixels[index] = _decode(path, size, channels, fit)

    # Filters of warnings belong to the whole process, so they are set once, around the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        for _ in pool.map(fill, range(len(pictures))):
            pass
    return Images(pixels, np.array([picture.label for picture in pictures], np.int64))


def _decode(path: Path, size: Size | None, channels: int | None, fit: Fit) -> ImageArray:
    from PIL import ImageOps

    with _open(path) as image:
        gray = image.mode in GRAY_MODES
        if size is not None:
            # Lets the JPEG decoder skip detail that would be averaged away; it stays at least twice as fine as needed.
            image.draft("L" if image.mode == "L" else "RGB", (2 * max(size), 2 * max(size)))
        upright = _eight_bit(ImageOps.exif_transpose(image), path)
        picture = upright.convert("L" if (channels or (1 if gray else 3)) == 1 else "RGB")
        fitted = picture if size is None else fit_image(picture, size, fit)
        pixels = np.array(fitted, np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


def _eight_bit(image: Image, path: Path) -> Image:
    """Lay transparency on white and bring more than 8 bits down to 8."""
    import PIL.Image

    if image.mode == "F":
        raise DataError(f"{path}: pixels are fractions; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return PIL.Image.fromarray(_from_sixteen_bits(np.asarray(image), path))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = PIL.Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, opaque).convert("RGB")
    return image


def _from_sixteen_bits(pixels: np.ndarray[Any, np.dtype[Any]], path: Path) -> ImageArray:
    if pixels.min() < 0 or pixels.max() > 65_535:
        raise DataError(f"{path}: pixels are outside 0–65,535; save it with 8 or 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
