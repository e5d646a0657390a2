"""Telling from their content which published images these are, whatever name and file format they came under."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fittingroom.data.arrays import Images

__all__ = ["PUBLISHED", "Part", "identify", "unordered_checksum"]


@dataclass(frozen=True)
class Part:
    """The training or the test images of a published set.

    Attributes:
        name: of the set.
        part: `train` or `test`.
        count: number of images.
        checksum: `Images.checksum` in the published order.
        unordered: `unordered_checksum`, whatever the order.
    """

    name: str
    part: str
    count: int
    checksum: str
    unordered: str


PUBLISHED = (
    Part(
        "fashion-mnist", "train", 60_000,
        "debaf8fa8041be7a81f2e270a5569bcf3ca32745e67851440ac1c8098e365bf5",
        "0ce0bc052f4f0c416389a2c164ace9c35c190ce6a07d9a77e8c3d798b5b9f57b",
    ),
    Part(
        "fashion-mnist", "test", 10_000,
        "31f656d43529baa045916ac6ce5e3b374968b3185ea991af67108481546e51da",
        "f1d4f97b4be2c8a005fde4677412593f8c8e3cafa86d64c76d5fbd325ea651f0",
    ),
    Part(
        "mnist", "train", 60_000,
        "91fd7a250495ac6742489b2a01919e8774cf195fed7282a7ecc63d849f99a9e1",
        "131d4ec1550c32fbbafdec4ba015667478dfc8e6c67c531cc96a4498094a28ee",
    ),
    Part(
        "mnist", "test", 10_000,
        "ffebde4273aab1f43748061ea9a58ebbd58f1959a6f92750e145265e4f6c826f",
        "6fb02fa9199e5138f9c76ca8ba803fafd289f84b3b3ee16db40359b1bbef2d7d",
    ),
    Part(
        "digits", "train", 1_438,
        "fada41e8326a548f215e1750d9514c7a4fd2a713941b2c1a241cd4472705b4c3",
        "bff20fbc4aa89cfbbe6877f8a6036736dc184085fa0240bdfc468624fef4016f",
    ),
    Part(
        "digits", "test", 359,
        "514e74c77ed92adccab4cd6c615874f68c5ee3fce73c9f513b79c03fe6a0dc62",
        "2ab95250b023d056cc3ec7ac2dd21eaee4efadf7d889bcdfe193beeceb5999ba",
    ),
)  # fmt: skip
"""Computed from the publishers' files, whose own checksums had been compared with the published ones first."""


def identify(images: Images) -> Part | None:
    """Return the published part whose content this is, in any order of the images, or None where it is none that is known."""
    candidates = [part for part in PUBLISHED if part.count == len(images)]
    for part in candidates:
        if part.checksum == images.checksum:
            return part
    if candidates:
        unordered = unordered_checksum(images)
        return next((part for part in candidates if part.unordered == unordered), None)
    return None


def unordered_checksum(images: Images) -> str:
    """SHA-256 over the shape and the sorted hashes of each image with its label: the same in whatever order they stand."""
    hashes = sorted(
        hashlib.blake2b(pixels.tobytes() + label.to_bytes(8, "little", signed=True), digest_size=16).digest()
        for pixels, label in zip(images.pixels, images.labels.tolist(), strict=True)
    )
    return hashlib.sha256(repr(images.pixels.shape[1:]).encode() + b"".join(hashes)).hexdigest()
