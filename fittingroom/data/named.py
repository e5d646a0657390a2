"""The named sets: what they hold, and where and under which checksums their publishers have them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CATALOG", "IDX_NAMES", "PARTS", "NamedSet", "RemoteFile"]

PARTS = ("train", "test")
IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher has it.

    Attributes:
        name: of the file, at the mirrors and on disk.
        size: in bytes.
        sha256: of the file.
        raw_sha256: of the file decompressed, where known: copies that were compressed anew are accepted by it.
    """

    name: str
    size: int
    sha256: str
    raw_sha256: str | None = None


@dataclass(frozen=True)
class NamedSet:
    """A set that can be asked for by name.

    Attributes:
        name: the name.
        title: what people call it.
        classes: the class names, by label.
        counts: training and test images.
        shape: height, width, channels.
        licence: under which it is published.
        homepage: of the publisher.
        mirrors: addresses to which the file names are added.
        files: what is fetched.
        folders: folder names under which other libraries keep it.
        idx_names: for each part, the names of its images and labels, without `.gz`.
        first_label: the number by which its files call the first class.
        transposed: its files hold each image with rows and columns exchanged.
        bundled: comes with scikit-learn, nothing needs to be found or fetched.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    counts: tuple[int, int]
    shape: tuple[int, int, int]
    licence: str
    homepage: str
    mirrors: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    folders: tuple[str, ...] = ()
    idx_names: Mapping[str, tuple[str, str]] = field(default_factory=lambda: IDX_NAMES)
    first_label: int = 0
    transposed: bool = False
    bundled: bool = False

    @property
    def archive(self) -> RemoteFile | None:
        """The zip file that the set is published as, where it is one."""
        return next((file for file in self.files if file.name.endswith(".zip")), None)

    @property
    def download_size(self) -> int:
        """Bytes to be fetched."""
        return sum(file.size for file in self.files)


CATALOG: dict[str, NamedSet] = {
    known.name: known
    for known in (
        NamedSet(
            name="fashion-mnist",
            title="Fashion-MNIST",
            classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            counts=(60_000, 10_000),
            shape=(28, 28, 1),
            licence="MIT",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            mirrors=(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
            files=(
                RemoteFile(
                    "train-images-idx3-ubyte.gz", 26_421_880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                RemoteFile(
                    "train-labels-idx1-ubyte.gz", 29_515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
                RemoteFile(
                    "t10k-images-idx3-ubyte.gz", 4_422_102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                RemoteFile(
                    "t10k-labels-idx1-ubyte.gz", 5_148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
            folders=("FashionMNIST/raw",),
        ),
        NamedSet(
            name="mnist",
            title="MNIST",
            classes=tuple(string.digits),
            counts=(60_000, 10_000),
            shape=(28, 28, 1),
            licence="CC BY-SA 3.0",
            homepage="http://yann.lecun.com/exdb/mnist/",
            mirrors=(
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "http://yann.lecun.com/exdb/mnist/",
            ),
            files=(
                RemoteFile(
                    "train-images-idx3-ubyte.gz", 9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                RemoteFile(
                    "train-labels-idx1-ubyte.gz", 28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                RemoteFile(
                    "t10k-images-idx3-ubyte.gz", 1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                RemoteFile(
                    "t10k-labels-idx1-ubyte.gz", 4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
            folders=("MNIST/raw",),
        ),
        NamedSet(
            name="kmnist",
            title="Kuzushiji-MNIST",
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            counts=(60_000, 10_000),
            shape=(28, 28, 1),
            licence="CC BY-SA 4.0",
            homepage="http://codh.rois.ac.jp/kmnist/",
            mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            files=(
                RemoteFile(
                    "train-images-idx3-ubyte.gz", 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
                ),
                RemoteFile("train-labels-idx1-ubyte.gz", 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
                RemoteFile("t10k-images-idx3-ubyte.gz", 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
                RemoteFile("t10k-labels-idx1-ubyte.gz", 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
            ),
            folders=("KMNIST/raw",),
        ),
        NamedSet(
            name="emnist-letters",
            title="EMNIST letters",
            classes=tuple(string.ascii_uppercase),
            counts=(124_800, 20_800),
            shape=(28, 28, 1),
            licence="public domain (NIST)",
            homepage="https://www.nist.gov/itl/products-and-services/emnist-dataset",
            mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/"),
            files=(RemoteFile("gzip.zip", 561_753_746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),),
            folders=("emnist", "EMNIST/raw"),
            idx_names={
                part: (f"emnist-letters-{part}-images-idx3-ubyte", f"emnist-letters-{part}-labels-idx1-ubyte") for part in PARTS
            },
            first_label=1,
            transposed=True,
        ),
        NamedSet(
            name="digits",
            title="scikit-learn's digits",
            classes=tuple(string.digits),
            counts=(1_438, 359),
            shape=(8, 8, 1),
            licence="CC BY 4.0",
            homepage="https://archive.ics.uci.edu/dataset/80",
            bundled=True,
        ),
    )
}  # fmt: skip
"""The named sets. Sizes and checksums of files are the publishers', checksums of decompressed bytes computed from their files."""
