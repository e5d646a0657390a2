"""Where the bytes of the named sets are looked for, and `load`, through which every set comes in.

Places are searched in this order: the folder that the user names, those of ``$FITTINGROOM_DATA``, ``./data``, the user's
cache folder, the copies that torchvision and Keras leave behind; then the publishers' mirrors. The test set is sealed:
its files are not opened unless they are asked for.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fittingroom.data.arrays import DataSet, Images
from fittingroom.data.download import Progress, download, matches
from fittingroom.data.folder import read_folder
from fittingroom.data.identity import PUBLISHED, identify
from fittingroom.data.idx import read_idx_pair
from fittingroom.data.named import CATALOG, IDX_NAMES, PARTS, NamedSet
from fittingroom.data.npz import read_npz
from fittingroom.data.reading import opened
from fittingroom.data.resize import Fit, Size, resized
from fittingroom.data.split import stratified_split
from fittingroom.data.table import read_table
from fittingroom.errors import DataError, DataMissing, UsageError, nearest
from fittingroom.files import write_bytes

__all__ = ["CATALOG", "Available", "NamedSet", "Surroundings", "available", "fetch", "forget", "keep", "kept", "load"]

Notify = Callable[[str], None]

DIGITS_TEST_FRACTION, DIGITS_TEST_SEED = 0.2, 0

# Sets that `keep` has loaded; nothing writes to their arrays.
_kept: dict[tuple[object, ...], DataSet] = {}


@dataclass(frozen=True)
class Surroundings:
    """What of the process and the machine decides where data is looked for.

    Attributes:
        environ: environment variables; `FITTINGROOM_DATA` (a path list) and `KERAS_HOME` are read.
        home: the user's home folder.
        cwd: the current folder, to which relative paths refer.
        cache: the folder for what is downloaded.
    """

    environ: Mapping[str, str]
    home: Path
    cwd: Path
    cache: Path

    @classmethod
    def of_this_process(cls) -> Surroundings:
        """Read them from the running process."""
        import platformdirs

        return cls(os.environ, Path("~").expanduser(), Path.cwd(), platformdirs.user_cache_path("fittingroom") / "data")

    @property
    def named(self) -> tuple[Path, ...]:
        """The folders of ``$FITTINGROOM_DATA``, in order, whether they exist or not."""
        return tuple(self.cwd / entry for entry in self.environ.get("FITTINGROOM_DATA", "").split(os.pathsep) if entry)

    def roots(self, data_dir: Path | None = None) -> tuple[Path, ...]:
        """The folders in which sets are looked for, in order, whether they exist or not."""
        keras = Path(self.environ.get("KERAS_HOME") or self.home / ".keras")
        roots = [
            *([data_dir] if data_dir else []),
            *self.named,
            self.cwd / "data",
            self.cache,
            self.home / "data",
            self.home / ".cache" / "torchvision",
            keras / "datasets",
        ]
        return tuple(dict.fromkeys(root.resolve() for root in roots))


@dataclass(frozen=True)
class Available:
    """One line of `data list`.

    Attributes:
        known: the named set.
        where: the folder or file where it was found; None where it was not found (or comes with scikit-learn).
    """

    known: NamedSet
    where: Path | None

    @property
    def name(self) -> str:
        """The name to ask for."""
        return self.known.name

    @property
    def classes(self) -> int:
        """How many classes it has."""
        return len(self.known.classes)

    @property
    def source(self) -> str:
        """Its publisher's page."""
        return self.known.homepage

    @property
    def found(self) -> str | None:
        """Where it can be loaded from without a download; None where it is not on this machine."""
        return "scikit-learn" if self.known.bundled else str(self.where) if self.where else None


@dataclass(frozen=True)
class _Found:
    """A named set on disk, seen but not read: for each part, one file or images and labels.

    Attributes:
        claimed: file or folder names, or the user, say that it is this set; false for nameless files in a shared folder.
    """

    files: Mapping[str, tuple[Path, ...]]
    claimed: bool = True

    @property
    def where(self) -> Path:
        files = self.files["train"]
        return files[0].parent if len(files) > 1 else files[0]


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    size: Size | None = None,
    channels: int | None = None,
    fit: Fit = "pad",
    with_test: bool = False,
    download: bool = True,
    notify: Notify | None = None,
    progress: Progress | None = None,
    surroundings: Surroundings | None = None,
) -> DataSet:
    """Load a set by name or by path.

    Args:
        name: a named set, or the path of an image folder, of a folder of IDX files, or of a CSV or npz file; a relative
            path is looked for in the current folder first, and then wherever named sets are.
        data_dir: where to look first, and where to put what is downloaded.
        size: height and width to which the images are brought; None keeps what they have.
        channels: 1 (gray) or 3 (RGB); None keeps what they have.
        fit: how pictures of other proportions are brought to ``size``: see `fittingroom.data.resize.fit_image`.
        with_test: also load the test images. Without it their files are not opened (one file that holds both parts is,
            but of the test images nothing is returned).
        download: fetch a named set that is nowhere on this machine.
        notify: called with each line that the user ought to see; the lines about the set itself are in its notices too.
        progress: of a download.
        surroundings: environment, home, current and cache folder; None takes those of the process.

    Raises:
        UsageError: unknown name, with the nearest known one; a folder of pictures of different sizes without ``size``.
        DataMissing: not on this machine, and not to be had from the mirrors.
        DataError: damaged, or not what its format promises.
    """
    surroundings = surroundings or Surroundings.of_this_process()
    if data_dir is not None:
        data_dir = (surroundings.cwd / data_dir).resolve()
        if not _is_folder(data_dir):
            raise UsageError(f"{data_dir}: no such folder; name one that holds data, or leave out the data folder")
    notify = notify or _silent
    if (held := _kept.get((name, data_dir, size, channels, fit))) is not None:
        dataset = held if with_test else replace(held, test=None)
    else:
        dataset = _load(name, data_dir, size, channels, fit, with_test, download, notify, progress, surroundings)
    for notice in dataset.notices:
        notify(notice)
    return dataset


def check(name: str, data_dir: Path | None = None) -> None:
    """Find out whether a name or path is one that `load` would look at; nothing is read, and nothing downloaded.

    Raises:
        UsageError, DataMissing: as `load` has it, for a name that is unknown and a path that is not there.
    """
    if name not in CATALOG:
        surroundings = Surroundings.of_this_process()
        _find_path(name, (surroundings.cwd, *surroundings.roots(_absolute(data_dir))))


def keep(
    name: str,
    *,
    data_dir: Path | None = None,
    size: Size | None = None,
    channels: int | None = None,
    fit: Fit = "pad",
    dataset: DataSet | None = None,
) -> None:
    """Have `load` give a set out from memory from now on; processes forked from this one share it.

    Args:
        name: as for `load`, as are the other arguments.
        dataset: the set, with its test images; None loads it.

    Raises:
        FittingRoomError: as `load` has it.
    """
    found = dataset or load(name, data_dir=data_dir, size=size, channels=channels, fit=fit, with_test=True)
    _kept[name, _absolute(data_dir), size, channels, fit] = found


def kept(
    name: str, *, data_dir: Path | None = None, size: Size | None = None, channels: int | None = None, fit: Fit = "pad"
) -> DataSet | None:
    """Return the set that `load` gives out from memory, or None."""
    return _kept.get((name, _absolute(data_dir), size, channels, fit))


def forget() -> None:
    """Forget all sets that were kept."""
    _kept.clear()


def _absolute(data_dir: Path | None) -> Path | None:
    return data_dir and (Surroundings.of_this_process().cwd / data_dir).resolve()


def _load(
    name: str,
    data_dir: Path | None,
    size: Size | None,
    channels: int | None,
    fit: Fit,
    with_test: bool,
    download: bool,
    notify: Notify,
    progress: Progress | None,
    surroundings: Surroundings,
) -> DataSet:
    if name in CATALOG:
        found = _load_named(CATALOG[name], data_dir, with_test, download, notify, progress, surroundings)
    else:
        found = _load_path(name, (surroundings.cwd, *surroundings.roots(data_dir)), size, channels, fit, with_test)
    return _checked(replace(found, name=name), size, channels, fit)


def _unknown(name: str) -> str:
    return f"unknown data set '{name}'{nearest(name, CATALOG)}; known: {', '.join(CATALOG)}"


def _silent(line: str) -> None:
    pass


def available(*, data_dir: Path | None = None, surroundings: Surroundings | None = None) -> tuple[Available, ...]:
    """Say of each named set whether and where it is on this machine, without opening its files."""
    surroundings = surroundings or Surroundings.of_this_process()
    data_dir = data_dir and (surroundings.cwd / data_dir).resolve()
    roots = surroundings.roots(data_dir)
    first = {name: next(_search(known, roots, data_dir, PARTS[:1]), None) for name, known in CATALOG.items()}
    return tuple(Available(known, found.where if (found := first[name]) else None) for name, known in CATALOG.items())


def fetch(
    name: str,
    into: Path | None = None,
    *,
    progress: Progress | None = None,
    notify: Notify | None = None,
    mirrors: tuple[str, ...] | None = None,
    surroundings: Surroundings | None = None,
) -> Path | None:
    """Download a named set, verify it, and put it into the folder ``<into>/<name>``.

    What is there and sound is not fetched again; what broke off is gone on with.

    Args:
        name: of the set.
        into: None takes the user's cache folder.
        progress: called with the bytes that are there and the bytes of the whole set.
        notify: called with each line that the user ought to see.
        mirrors: addresses in place of the publishers'.
        surroundings: None takes those of the process.

    Returns:
        The folder of the set; None for a set that comes with scikit-learn, where nothing needs to be fetched.

    Raises:
        UsageError: there is no set of that name.
        DataMissing: no mirror could be reached or has the right files; says where to put them by hand.
        FittingRoomError: the folder cannot be written.
    """
    if name not in CATALOG:
        raise UsageError(_unknown(name))
    known, notify = CATALOG[name], notify or _silent
    if known.bundled:
        notify(f"{name} comes with scikit-learn: nothing to fetch")
        return None
    target = (into or (surroundings or Surroundings.of_this_process()).cache) / name
    if known.archive and all(_idx_files(target, known, part) for part in PARTS):
        return target
    notify(f"fetching {known.title} ({known.download_size / 1e6:,.0f} MB) into {target}")
    done = 0
    for file in known.files:
        urls = [mirror + file.name for mirror in mirrors or known.mirrors]
        try:
            download(
                urls, target / file.name, sha256=file.sha256, raw_sha256=file.raw_sha256, size=file.size,
                progress=_shifted(progress, done, known.download_size),
            )  # fmt: skip
        except DataMissing as error:
            raise DataMissing(f"{name} is not on this machine: {error}; {_by_hand(known, target)}") from None
        done += file.size
    if known.archive:
        _unpack(target / known.archive.name, known, target)
        (target / known.archive.name).unlink()
    return target


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Make the progress of one file that of the set."""
    return None if progress is None else lambda bytes_done, _: progress(min(done + bytes_done, total), total)


def _by_hand(known: NamedSet, folder: Path) -> str:
    files = ", ".join(file.name for file in known.files)
    return f"put {files} (from {known.homepage}) into {folder}, or name their folder with --data-dir or $FITTINGROOM_DATA"


def _load_named(
    known: NamedSet,
    data_dir: Path | None,
    with_test: bool,
    may_download: bool,
    notify: Notify,
    progress: Progress | None,
    surroundings: Surroundings,
) -> DataSet:
    if known.bundled:
        return _with_identity(_digits(known, with_test), known)
    roots = surroundings.roots(data_dir)
    parts = PARTS if with_test else PARTS[:1]
    for found in _search(known, roots, data_dir, parts):
        dataset = _with_identity(_read(found, known, with_test), known)
        if found.claimed or dataset.identity in (known.name, None):
            return dataset
        notify(f"passed over {found.where}: it holds {_title(dataset.identity)}, not {known.title}")
    for folder in surroundings.named:
        if not _is_folder(folder):
            notify(f"$FITTINGROOM_DATA names {folder}, and there is no such folder")
    into = data_dir or surroundings.cache
    if (archive := _archive_on_disk(known, roots)) is not None:
        notify(f"unpacking {known.title} from {archive} into {into / known.name}")
        _unpack(archive, known, into / known.name)
    elif may_download:
        fetch(known.name, into, progress=progress, notify=notify, surroundings=surroundings)
    else:
        remedy = f"{_by_hand(known, into / known.name)}, or run: fittingroom data fetch {known.name}"
        raise DataMissing(f"{known.name} is not on this machine: {remedy}")
    folder = into / known.name
    return _with_identity(_read(_Found({part: _idx_files(folder, known, part) for part in PARTS}), known, with_test), known)


def _search(known: NamedSet, roots: tuple[Path, ...], data_dir: Path | None, parts: tuple[str, ...]) -> Iterator[_Found]:
    """Find the places that hold all of ``parts``, in order."""
    for root in roots:
        for folder in (root / known.name, *(root / alias for alias in known.folders), root):
            if all(_idx_files(folder, known, part) for part in parts):
                claimed = folder != root or root == data_dir or known.idx_names is not IDX_NAMES
                yield _Found({part: _idx_files(folder, known, part) for part in parts}, claimed)
            npz = folder / f"{known.name}.npz"
            if _is_file(npz):
                yield _Found(dict.fromkeys(parts, (npz,)))
            tables = {part: folder / f"{known.name}_{part}.csv" for part in parts}
            if all(_is_file(table) for table in tables.values()):
                yield _Found({part: (table,) for part, table in tables.items()})


def _idx_files(folder: Path, known: NamedSet, part: str) -> tuple[Path, ...]:
    """The files of images and labels of one part; empty where one of the two is missing."""
    found = []
    for name in known.idx_names[part]:
        # Compressed first: it carries a checksum. Some sites replace the first hyphen of the suffix by a dot.
        variants = [f"{stem}{suffix}" for stem in (name, name.replace("-idx", ".idx")) for suffix in (".gz", "")]
        present = [folder / variant for variant in variants if _is_file(folder / variant)]
        if not present:
            return ()
        found.append(present[0])
    return tuple(found)


def _read(found: _Found, known: NamedSet, with_test: bool) -> DataSet:
    files = found.files["train"]
    if files[0].suffix == ".npz":
        return replace(read_npz(files[0], classes=len(known.classes), with_test=with_test), classes=known.classes)
    train = _read_part(files, known)
    test = _read_part(found.files["test"], known) if with_test else None
    dataset = DataSet(known.name, known.classes, train, test=test, source=str(found.where))
    return replace(dataset, identity=known.name) if _as_published(files, known) else dataset


def _read_part(files: tuple[Path, ...], known: NamedSet) -> Images:
    if len(files) == 1:
        return read_table(files[0], classes=len(known.classes))
    images = read_idx_pair(files[0], files[1], classes=len(known.classes), first_label=known.first_label)
    if not known.transposed:
        return images
    return Images(np.ascontiguousarray(images.pixels.swapaxes(1, 2)), images.labels)


def _as_published(files: tuple[Path, ...], known: NamedSet) -> bool:
    """Whether these are the published files themselves; asked for a set of whose content no checksum is known."""
    if _is_checkable(known):
        return False
    published = {file.name: file.sha256 for file in known.files}
    return all(file.name in published and matches(file, published[file.name]) for file in files)


def _archive_on_disk(known: NamedSet, roots: tuple[Path, ...]) -> Path | None:
    """The published zip file, where the user has put it into one of the places."""
    if known.archive is None:
        return None
    folders = (folder for root in roots for folder in (root / known.name, *(root / alias for alias in known.folders), root))
    return next((folder / known.archive.name for folder in folders if _is_file(folder / known.archive.name)), None)


def _unpack(archive: Path, known: NamedSet, into: Path) -> None:
    """Take the files of the set out of the published zip file, which holds many more."""
    wanted = {f"{name}.gz" for names in known.idx_names.values() for name in names}
    limit = 4 * known.counts[0] * known.shape[0] * known.shape[1]
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = {Path(member.filename).name: member for member in bundle.infolist()}
            for name in sorted(wanted):
                if name not in members or members[name].file_size > limit:
                    raise DataError(f"{archive}: does not hold {name} as published; remove it and fetch it again")
                write_bytes(into / name, bundle.read(members[name]))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{archive}: corrupt ({error}); remove it and fetch it again") from None


def _digits(known: NamedSet, with_test: bool) -> DataSet:
    """The 1,797 digits of 8×8 that come with scikit-learn, 0–16 brought to 0–255.

    They have no test part of their own: a fifth, stratified, is carved out with a fixed seed, the same for everyone.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = np.rint(bundle.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Images(pixels, bundle.target.astype(np.int64))
    train, test = stratified_split(everything.labels, DIGITS_TEST_FRACTION, DIGITS_TEST_SEED)
    return DataSet(
        known.name, known.classes, everything.take(train), test=everything.take(test) if with_test else None, source="scikit-learn"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered, a name that is too long
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _load_path(name: str, roots: tuple[Path, ...], size: Size | None, channels: int | None, fit: Fit, with_test: bool) -> DataSet:
    path = _find_path(name, roots)
    if _is_folder(path):
        files = {part: _idx_files(path, CATALOG["mnist"], part) for part in PARTS}
        if files["train"]:
            train = read_idx_pair(*files["train"])
            test = read_idx_pair(*files["test"]) if with_test and files["test"] else None
            return _with_identity(_numbered(name, train, test))
        return _with_identity(read_folder(path, size=size, channels=channels, fit=fit, with_test=with_test))
    return _with_identity(_load_file(name, path, with_test))


def _find_path(name: str, roots: tuple[Path, ...]) -> Path:
    """The file or folder that a path means, in the first of the folders that has it."""
    candidates = [root / name for root in roots]
    if (found := next((path for path in candidates if _is_folder(path) or _is_file(path)), None)) is not None:
        return found
    if os.sep in name or candidates[0].suffix in (".csv", ".npz", ".gz"):
        raise DataMissing(f"{name}: no such file or folder")
    raise UsageError(f"{_unknown(name)}, or the path of a folder, a CSV or an npz file")


def _load_file(name: str, path: Path, with_test: bool) -> DataSet:
    with opened(path) as stream:
        head = stream.read(4)
    if head[:2] == b"PK" or path.suffix == ".npz":
        return read_npz(path, with_test=with_test)
    if head[:3] == b"\0\0\x08":
        raise UsageError(f"{name}: one IDX file alone is no data set; name the folder that holds images and labels")
    beside = path.with_name(path.name.replace("train", "test"))
    test = read_table(beside) if with_test and beside != path and _is_file(beside) else None
    return _numbered(name, read_table(path), test)


def _numbered(name: str, train: Images, test: Images | None) -> DataSet:
    """A set whose classes have numbers alone."""
    return DataSet(name, tuple(map(str, range(int(train.labels.max()) + 1))), train, test=test, source=name)


def _with_identity(dataset: DataSet, claimed: NamedSet | None = None) -> DataSet:
    """Find out which known set this is, and note what the user ought to know of it."""
    train = identify(dataset.train)
    test = identify(dataset.test) if dataset.test is not None else None
    where, notices, identity = dataset.source, list(dataset.notices), dataset.identity
    if train and train.part == "test":
        notices.append(f"the training images of {where} are the test images of {_title(train.name)}")
    elif train:
        identity = train.name
        if train.checksum != dataset.train.checksum:
            notices.append(f"{where} holds the images of {_title(identity)} in another order than published")
        if dataset.test is not None and (test is None or (test.name, test.part) != (identity, "test")):
            notices.append(f"the test images of {where} are not those of {_title(identity)}")
    if claimed and identity is None and (_is_checkable(claimed) or len(dataset.train) != claimed.counts[0]):
        notices.append(f"what {where} holds is not the published {claimed.title}: results on it cannot be compared with others'")
    elif claimed and identity not in (claimed.name, None):
        notices.append(f"what {where} holds is {_title(identity)}, not {claimed.title}")
    classes = dataset.classes
    if identity and not claimed and all(map(str.isdecimal, classes)) and len(classes) == len(CATALOG[identity].classes):
        classes = CATALOG[identity].classes
    return replace(dataset, classes=classes, identity=identity, notices=tuple(notices))


def _is_checkable(known: NamedSet) -> bool:
    """Whether a checksum of its content is known."""
    return any(part.name == known.name for part in PUBLISHED)


def _title(name: str | None) -> str:
    return CATALOG[name].title if name in CATALOG else str(name)


def _checked(dataset: DataSet, size: Size | None, channels: int | None, fit: Fit) -> DataSet:
    """Check what holds for every set, and bring all parts to the asked size and channels."""
    shape = dataset.train.pixels.shape[1:]
    for part, images in (("validation", dataset.validation), ("test", dataset.test)):
        if images is None:
            continue
        if images.pixels.shape[1:] != shape:
            raise DataError(f"{dataset.source}: {part} images are {images.pixels.shape[1:]}, training images {shape}")
        if images.labels.max() >= len(dataset.classes):
            raise DataError(f"{dataset.source}: {part} label {images.labels.max()} is outside the classes 0–{len(dataset.classes) - 1}")
    if len(np.unique(dataset.train.labels)) < 2:
        raise DataError(f"{dataset.source}: all training images are of one class; telling classes apart takes at least two")
    return replace(
        dataset,
        train=resized(dataset.train, size, channels, fit),
        validation=dataset.validation and resized(dataset.validation, size, channels, fit),
        test=dataset.test and resized(dataset.test, size, channels, fit),
    )
