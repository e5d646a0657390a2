"""Which published images a table was computed on, told by how many there are of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fittingroom.audit.finding import Finding

__all__ = ["KNOWN", "KnownPart", "known_parts", "supports_finding"]


@dataclass(frozen=True)
class KnownPart:
    """The images of each class in one part of a published set.

    Attributes:
        name: of the set, as in `fittingroom data list` where it is there.
        title: its name for a reader.
        part: ``test``, ``train`` or ``whole``.
        supports: images of each class, in the order of the labels.
        source: where the numbers come from.
    """

    name: str
    title: str
    part: str
    supports: tuple[int, ...]
    source: str

    @property
    def words(self) -> str:
        """Such as ``MNIST's test set``."""
        return f"{self.title}'s {'whole' if self.part == 'whole' else self.part} set"


FASHION = "Xiao, Rasul, Vollgraf, 2017, arXiv:1708.07747"
MNIST = "the label files of LeCun, Cortes, Burges, MNIST"
KMNIST = "Clanuwat et al., 2018, arXiv:1812.01718"
EMNIST = "Cohen et al., 2017, arXiv:1702.05373, table II"
CIFAR = "Krizhevsky, 2009, Learning multiple layers of features from tiny images"
DIGITS = "scikit-learn's load_digits"

KNOWN = (
    KnownPart("fashion-mnist", "Fashion-MNIST", "test", (1_000,) * 10, FASHION),
    KnownPart("fashion-mnist", "Fashion-MNIST", "train", (6_000,) * 10, FASHION),
    KnownPart("mnist", "MNIST", "test", (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009), MNIST),
    KnownPart("mnist", "MNIST", "train", (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949), MNIST),
    KnownPart("kmnist", "KMNIST", "test", (1_000,) * 10, KMNIST),
    KnownPart("kmnist", "KMNIST", "train", (6_000,) * 10, KMNIST),
    KnownPart("cifar-10", "CIFAR-10", "test", (1_000,) * 10, CIFAR),
    KnownPart("cifar-10", "CIFAR-10", "train", (5_000,) * 10, CIFAR),
    KnownPart("cifar-100", "CIFAR-100", "test", (100,) * 100, CIFAR),
    KnownPart("cifar-100", "CIFAR-100", "train", (500,) * 100, CIFAR),
    KnownPart("emnist-letters", "EMNIST Letters", "test", (800,) * 26, EMNIST),
    KnownPart("emnist-letters", "EMNIST Letters", "train", (4_800,) * 26, EMNIST),
    KnownPart("emnist-balanced", "EMNIST Balanced", "test", (400,) * 47, EMNIST),
    KnownPart("emnist-balanced", "EMNIST Balanced", "train", (2_400,) * 47, EMNIST),
    KnownPart("emnist-digits", "EMNIST Digits", "test", (4_000,) * 10, EMNIST),
    KnownPart("emnist-digits", "EMNIST Digits", "train", (24_000,) * 10, EMNIST),
    KnownPart("digits", "scikit-learn's digits", "test", (36, 36, 35, 37, 36, 36, 36, 36, 35, 36), f"{DIGITS}, the fifth held out here"),
    KnownPart("digits", "scikit-learn's digits", "train", (142, 146, 142, 146, 145, 146, 145, 143, 139, 144), f"{DIGITS}, the rest here"),
    KnownPart("digits", "scikit-learn's digits", "whole", (178, 182, 177, 183, 181, 182, 181, 179, 174, 180), DIGITS),
)
"""Supports of published sets; where several parts have the same, all of them are named."""


def known_parts(supports: Sequence[int]) -> tuple[KnownPart, ...]:
    """The published parts with these supports, in this order of the classes, or else in any order."""
    same = tuple(part for part in KNOWN if part.supports == tuple(supports))
    return same or tuple(part for part in KNOWN if sorted(part.supports) == sorted(supports))


def supports_finding(supports: Sequence[int], data: str | None, own: Sequence[KnownPart] = ()) -> Finding:
    """Judge whether supports are those of the data set that a table claims, or of another known one.

    Args:
        supports: images of each class.
        data: the name of the set claimed, or None where none is.
        own: parts of that set whose supports were counted, where it is not among the published ones here.
    """
    parts = known_parts(supports)
    evidence = {
        "supports": list(supports),
        "images": sum(supports),
        "same_as": [{"name": part.name, "part": part.part, "source": part.source} for part in parts],
    }
    these = _these(supports, parts)
    if data is None:
        if not parts:
            return Finding(
                "supports", "cannot tell", f"{sum(supports):,} images in {len(supports)} classes: no published set known here", evidence
            )
        return Finding("supports", "holds", these, evidence)
    claimed = [part for part in (*KNOWN, *own) if part.name == data]
    evidence["claimed"] = data
    if not claimed:
        return Finding("supports", "cannot tell", f"the supports of {data} are not known here" + (f"; {these}" if parts else ""), evidence)
    title = claimed[0].title
    matching = [part for part in claimed if sorted(part.supports) == sorted(supports)]
    if matching:
        order = "" if matching[0].supports == tuple(supports) else ", in another order of the classes"
        what = f"these are the supports of {matching[0].words}{order}"
        others = [part.words for part in parts if part.name != data]
        return Finding("supports", "holds", what + (f" (and of {_listed(others)})" if others else ""), evidence)
    test = next((part for part in claimed if part.part == "test"), claimed[0])
    evidence["expected"] = list(test.supports)
    if parts:
        return Finding("supports", "fails", f"{these}, not of {test.words}", evidence)
    if len(supports) != len(test.supports):
        return Finding("supports", "fails", f"the table has {len(supports)} classes, {title} has {len(test.supports)}", evidence)
    if any(part.part != "test" and _fits(supports, part.supports) for part in claimed) and sum(supports) != sum(test.supports):
        what = f"these are not the supports of {test.words}; a part split from its training images could have them"
        return Finding("supports", "cannot tell", what, evidence)
    return Finding("supports", "fails", f"{_difference(supports, test.supports)}: these are not the supports of {test.words}", evidence)


def _these(supports: Sequence[int], parts: Sequence[KnownPart]) -> str:
    if not parts:
        return ""
    order = "" if parts[0].supports == tuple(supports) else ", in another order of the classes"
    return f"these are the supports of {_listed([part.words for part in parts])}{order}"


def _fits(supports: Sequence[int], whole: Sequence[int]) -> bool:
    return all(part <= all_of_class for part, all_of_class in zip(sorted(supports), sorted(whole), strict=True))


def _difference(supports: Sequence[int], expected: Sequence[int]) -> str:
    index = next(index for index, (found, wanted) in enumerate(zip(supports, expected, strict=True)) if found != wanted)
    return f"class {index} has {supports[index]:,} images where {expected[index]:,} are expected"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
