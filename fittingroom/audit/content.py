"""Auditing a data set against itself: balance, images that stand in it twice, one image under two labels, empty images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fittingroom.audit.finding import Audit, Finding
from fittingroom.data.arrays import DataSet, Images
from fittingroom.data.identity import identify

__all__ = ["audit_data"]

EXAMPLES = 20
"""How many cases of a kind the evidence lists; it counts all."""

NEARLY, MUCH = 1.5, 10.0
"""Up to which ratio of the largest class to the smallest a part is nearly balanced, and above which its imbalance fails."""

Place = tuple[str, int]  # the part and the index of an image in it


def audit_data(data: DataSet) -> Audit:
    """Audit a data set: the parts that are loaded; a sealed test set stays out.

    Images are the same where every pixel is. A copy within a part, or one image under two labels, is a blemish that many published sets
    have; it fails, so that it is known. So do copies of training images among validation or test images, which make results too good.
    """
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    loaded = {name: images for name, images in parts.items() if images is not None}
    places = _places(loaded)
    findings = [_identity(data, loaded)]
    findings += [_balance(name, images, data.classes) for name, images in loaded.items()]
    findings += [_copies_within(name, places) for name in loaded]
    names = list(loaded)
    findings += [_copies_between(names[i], names[j], places) for i in range(len(names)) for j in range(i + 1, len(names))]
    findings.append(_labels(loaded, places, data.classes))
    findings.append(_constant(loaded))
    return Audit(data.name, 0, tuple(findings))


def _places(parts: Mapping[str, Images]) -> dict[bytes, list[Place]]:
    """Where each distinct image stands, by the hash of its pixels."""
    places: dict[bytes, list[Place]] = defaultdict(list)
    for name, images in parts.items():
        rows = np.ascontiguousarray(images.pixels).reshape(len(images), -1)
        for index, row in enumerate(rows):
            places[hashlib.blake2b(row.data, digest_size=16).digest()].append((name, index))
    return places


def _identity(data: DataSet, parts: Mapping[str, Images]) -> Finding:
    found = {name: part for name, images in parts.items() if (part := identify(images)) is not None}
    evidence: dict[str, Any] = {
        "identity": data.identity,
        "parts": {name: {"name": part.name, "part": part.part} for name, part in found.items()},
        "sha256": {name: images.checksum for name, images in parts.items()},
        "notices": list(data.notices),
    }
    wrong = [name for name, part in found.items() if part.part != name and not (name == "validation" and part.part == "train")]
    claimed = [part.name for part in found.values() if part.name != data.name]
    words = ", ".join(f"its {name} images are the {part.part} images of {part.name}" for name, part in found.items())
    if data.notices:
        return Finding("identity", "fails", "; ".join(data.notices), evidence)
    if wrong:
        return Finding("identity", "fails", words, evidence)
    if not found:
        return Finding("identity", "cannot tell", "its content is that of no published set known here", evidence)
    if unknown := [name for name in parts if name not in found]:
        others = f"its {' and '.join(unknown)} images are those of no published set known here"
        return Finding("identity", "cannot tell", f"{words}; {others}", evidence)
    return Finding("identity", "holds", words + (f", whatever it is called ({data.name})" if claimed else ", as published"), evidence)


def _balance(name: str, images: Images, classes: tuple[str, ...]) -> Finding:
    counts = np.bincount(images.labels, minlength=len(classes)).tolist()
    least, most = min(counts), max(counts)
    evidence = {"images": len(images), "per_class": dict(zip(classes, counts, strict=True))}
    check = f"balance of {name}"
    if least == 0:
        return Finding(check, "fails", f"class {classes[counts.index(0)]} has no {name} image", evidence)
    if least == most:
        return Finding(check, "holds", f"{len(images):,} images, {least:,} of each of {len(classes)} classes", evidence)
    small, large = classes[counts.index(least)], classes[counts.index(most)]
    if most <= NEARLY * least:
        return Finding(
            check, "holds", f"{len(images):,} images, nearly balanced: {least:,} ({small}) to {most:,} ({large}) a class", evidence
        )
    what = f"class {large} has {most / least:.1f} times the images of {small} ({most:,} and {least:,}): read accuracy beside macro averages"
    return Finding(check, "fails" if most > MUCH * least else "holds", what, evidence)


def _copies_within(name: str, places: Mapping[bytes, list[Place]]) -> Finding:
    groups = [found for where in places.values() if len(found := [index for part, index in where if part == name]) > 1]
    extra = sum(len(group) - 1 for group in groups)
    evidence = {"copies": extra, "groups": len(groups), "examples": groups[:EXAMPLES]}
    if not groups:
        return Finding(f"copies within {name}", "holds", f"no {name} image stands in it twice", evidence)
    return Finding(f"copies within {name}", "fails", f"{extra:,} {name} {_images(extra)} of another {name} image", evidence)


def _copies_between(first: str, second: str, places: Mapping[bytes, list[Place]]) -> Finding:
    check = f"copies between {first} and {second}"
    shared: list[dict[str, list[int]]] = []
    for where in places.values():
        one, other = ([index for part, index in where if part == name] for name in (first, second))
        if one and other:
            shared.append({first: one, second: other})
    count = sum(len(pair[second]) for pair in shared)
    evidence = {"copies": count, "examples": shared[:EXAMPLES]}
    if not shared:
        return Finding(check, "holds", f"no {second} image is also a {first} image", evidence)
    return Finding(
        check, "fails", f"{count:,} {second} {_images(count)} of a {first} image: results on them are recall, not judgement", evidence
    )


def _labels(parts: Mapping[str, Images], places: Mapping[bytes, list[Place]], classes: tuple[str, ...]) -> Finding:
    conflicts = []
    for where in places.values():
        labels = [int(parts[name].labels[index]) for name, index in where]
        if len(set(labels)) > 1:
            conflicts.append(
                [{"part": name, "index": index, "class": classes[label]} for (name, index), label in zip(where, labels, strict=True)]
            )
    evidence = {"images": len(conflicts), "examples": conflicts[:EXAMPLES]}
    if not conflicts:
        return Finding("labels", "holds", "no image stands under two labels", evidence)
    count = len(conflicts)
    return Finding("labels", "fails", f"{count:,} {'image stands' if count == 1 else 'images stand'} under two labels or more", evidence)


def _constant(parts: Mapping[str, Images]) -> Finding:
    found: list[Place] = []
    for name, images in parts.items():
        rows = images.pixels.reshape(len(images), -1)
        found += [(name, int(index)) for index in np.flatnonzero(rows.min(axis=1) == rows.max(axis=1))]
    evidence = {"images": len(found), "examples": _listed(found)}
    if not found:
        return Finding("constant images", "holds", "no image is of one value alone", evidence)
    count = len(found)
    return Finding(
        "constant images", "fails", f"{count:,} {'image is' if count == 1 else 'images are'} of one value alone, and show nothing", evidence
    )


def _listed(places: Iterable[Place]) -> list[dict[str, Any]]:
    return [{"part": part, "index": index} for part, index in list(places)[:EXAMPLES]]


def _images(count: int) -> str:
    return "image is a copy" if count == 1 else "images are copies"
