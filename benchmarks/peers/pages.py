"""The tables of the benchmark and its drawing, ``docs/bench.svg``, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.case import USUAL_RATE
from benchmarks.peers.drawing import drawing
from benchmarks.peers.summary import (
    TELLING,
    Spread,
    agrees,
    earlier,
    fastest,
    geometric_mean,
    learnt,
    noise,
    over_limit,
    ratios,
    rivals,
    spread,
)
from benchmarks.peers.targets import Target, targets
from benchmarks.places import HIGHEST, read_record

__all__ = ["TABLES", "drawings", "report"]

ROOT = Path(__file__).parent.parent.parent
DRAWING = ROOT / "docs" / "bench.svg"
NOT_YET = "*Not measured yet: `make bench` fills this in.*\n"

BUSY = 1.0
"""Load average above the threads of a peer from which on the machine had something else to do."""

Record = dict[str, Any]


def drawings() -> dict[Path, str]:
    """Return the drawing, where there is a record."""
    record = read_record("bench")
    return {} if record is None else {DRAWING: drawing(record)}


def report(record: Record) -> str:
    """All tables that the record has values for, for the terminal."""
    made = [training(record), waiting(record)]
    if record["learning"]:
        made.append(learning(record))
    if record["inference"]:
        made.append(inference(record))
    return "\n".join([*made, aims(record), short(record)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def times(values: Spread) -> str:
    """A ratio with its spread."""
    return f"{values.middle:.2f} × ({values.low:.2f} … {values.high:.2f})"


def named(cell: Record) -> str:
    """A network and its batch size."""
    return f"`{cell['network']}`, {cell['batch']}"


def machine(record: Record) -> str:
    """On what it was measured."""
    place = record["environment"]
    packages = place["packages"]
    versions = f"torch {packages['torch']}, Keras {packages['keras']} on TensorFlow {packages['tensorflow-cpu']}"
    return (
        f"On {place['cores']} cores ({place['processor']}), {record['settings']['threads']} threads each; {versions}, "
        f"Lightning {packages['lightning']}, ONNX Runtime {packages['onnxruntime']}; our kernels: {place['kernels']}."
    )


def doubts(record: Record) -> list[str]:
    """What was not as it should be while it was measured."""
    said = []
    commit = record["environment"]["commit"] or ""
    if commit.endswith("+"):
        said.append(f"The program was {commit[:-1]} with changes that were not committed.")
    for its_commit, what in earlier(record).items():
        changed = ", with changes that were not committed" if its_commit.endswith("+") else ""
        said.append(f"Measured with an earlier program ({its_commit.rstrip('+')}{changed}): {what}.")
    if not all("plain" in cell["peers"] for cell in record["cells"]):
        said.append(
            "It was an earlier form of the benchmark, in which the start of a `DataLoader`'s workers could fall into what was timed: the "
            "ratios over `DataLoader` and Lightning may be too high."
        )
    loads = [load for entry in (*record["cells"], *record["inference"]) for load in entry.get("load", [])]
    busy = [load for load in loads if load > record["settings"]["threads"] + BUSY]
    if busy:
        said.append(f"The machine had other work: its load was up to {max(busy):.1f}, and too high in {len(busy)} of {len(loads)} rounds.")
    return said


def training(record: Record) -> str:
    """Our speed over each peer's, and over that of our plain path where it was measured."""
    plain = ["plain"] if all("plain" in cell["peers"] for cell in record["cells"]) else []
    peers = ("Keras", "DataLoader", "tensors", "Lightning")
    rows = []
    for cell in record["cells"]:
        keras, *others = rivals(cell)
        against = {"Keras": keras, **dict(zip(peers[1:], others, strict=True))}
        cells = [times(spread(ratios(cell, peer))) for peer in against.values()]
        cells[0] += f" {keras.removeprefix('keras-')}"
        best = next(label for label, peer in against.items() if peer == fastest(cell))
        speed = spread(cell["peers"]["ours"]["images_per_second"])
        slower = [times(spread(ratios(cell, peer))) for peer in plain]
        rows.append([named(cell), f"{speed.middle:,.0f}", *cells, best, *slower, f"{spread(over_limit(cell)).middle:.2f} ×"])
    means = [mean(record, lambda cell, place=place: ratios(cell, rivals(cell)[place])) for place in range(len(peers))]
    slower = [mean(record, lambda cell: ratios(cell, "plain")) for _ in plain]
    rows.append(["geometric mean", "", *means, "", *slower, mean(record, over_limit)])
    ours = [*("over our plain path" for _ in plain), "our step over its products alone"]
    return table(["network, batch", "ours, images/s", *(f"over {peer}" for peer in peers), "fastest peer", *ours], rows)


def mean(record: Record, values: Callable[[Record], list[float]]) -> str:
    """The geometric mean over all cells."""
    return f"{geometric_mean([spread(values(cell)).middle for cell in record['cells']]):.2f} ×"


def aimed_at(record: Record) -> list[Target]:
    """All aims, with what the record says of them."""
    return targets(record["cells"], record["environment"]["kernels"])


def aims(record: Record) -> str:
    """What was aimed at, and what was reached."""
    rows = []
    for one in aimed_at(record):
        measured = f"**{one.measured}**" if one.verdict else one.measured
        rows.append([one.what, f"{one.least}{one.unit}", f"{one.aim}{one.unit}", measured, one.verdict])
    return table(["", "asked", "aim", "measured", ""], rows)


def short(record: Record) -> str:
    """What is known of why the aims that are not reached are not."""
    lines = [f"* **{one.what}: {one.measured}, {one.verdict}.** {one.why}" for one in aimed_at(record) if one.short]
    return "\n".join(lines or ["Every aim is reached."]) + "\n"


def waiting(record: Record) -> str:
    """What a user waits for before the first steps are done, and how much memory a peer takes."""
    peers = [peer for peer in record["cells"][0]["peers"] if peer != "limit"]
    rows = []
    for cell in record["cells"]:
        seen = cell["peers"]
        waits = [f"{seen[peer]['seconds_to_start'] + seen[peer]['seconds_to_first_steps']:.1f} s" for peer in peers]
        rows.append([named(cell), *(f"{wait}, {seen[peer]['peak_bytes'] / 1e9:.2f} GB" for peer, wait in zip(peers, waits, strict=True))])
    return table(["network, batch", *peers], rows)


def learning(record: Record) -> str:
    """Accuracies after a fixed number of epochs, and whether a difference from ours can be chance."""
    rows = []
    for entry in record["learning"]:
        for peer, found in learnt(entry).items():
            accuracies = " ".join(f"{100 * accuracy:.2f}" for accuracy in found.accuracies)
            verdict = "" if peer == "ours" else found.verdict
            difference = "" if peer == "ours" else f"{100 * found.difference:+.2f}"
            # Records of the time before the rate differed between networks do not say it.
            judged = ", by batch" if entry.get("by_batch") else ""
            what = f"`{entry['network']}`, {entry['epochs']} × {entry['images']:,}, {entry.get('rate', USUAL_RATE)}{judged}"
            rows.append([what, peer, accuracies, difference, f"± {100 * found.noise:.2f}" if peer != "ours" else "", verdict])
    head = ["network, epochs × images, rate", "peer", "validation accuracy, %, by seed", "ours minus it", "noise (99 %)", ""]
    return table(head, rows) + untold(record)


def untold(record: Record) -> str:
    """Which comparisons tell nothing, and which have not been made."""
    lines = []
    noisy = [(entry["network"], noise(entry)) for entry in record["learning"]]
    if named := ", ".join(f"`{network}` (± {100 * value:.0f} points)" for network, value in noisy if value >= TELLING):
        lines.append(f"Nothing is told of {named}: there is too much noise.")
    timed, compared = {cell["network"] for cell in record["cells"]}, {network for network, _ in noisy}
    if absent := ", ".join(f"`{network}`" for network in sorted(timed - compared)):
        lines.append(f"Not compared yet: {absent}.")
    return "".join(f"\n{line}\n" for line in lines)


def inference(record: Record) -> str:
    """Predicting 10,000 images, and one."""
    rows = []
    for entry in record["inference"]:
        ours = entry["peers"]["ours"]
        for peer, seen in entry["peers"].items():
            many = [mine / theirs for mine, theirs in zip(ours["images_per_second"], seen["images_per_second"], strict=True)]
            one = [theirs / mine for mine, theirs in zip(ours["latency_seconds"], seen["latency_seconds"], strict=True)]
            agreement = entry["agreement"][peer]
            rows.append(
                [
                    f"`{entry['network']}`",
                    peer,
                    f"{spread(seen['images_per_second']).middle:,.0f}" + (" (`predict`)" if peer == "keras" else ""),
                    "" if peer == "ours" else times(spread(many)),
                    f"{1e3 * spread(seen['latency_seconds']).middle:.2f} ms" + (f" (`{seen['single']}`)" if peer == "keras" else ""),
                    "" if peer == "ours" else times(spread(one)),
                    f"{100 * agreement['same_class']:.2f} %, {agreement['largest_difference']:.1e}"
                    + ("" if agrees(peer, agreement) else ", **too far**"),
                ]
            )
    head = ["network", "with", "images/s", "ours over it", "one image", "it over ours", "same class, largest difference of a probability"]
    return f"{table(head, rows)}\n{alone(record)}\n"


def alone(record: Record) -> str:
    """Why a single image takes as long as it does."""
    ours = [entry["peers"]["ours"] for entry in record["inference"]]
    shares = [1 / (spread(seen["images_per_second"]).middle * spread(seen["latency_seconds"]).middle) for seen in ours]
    low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
    return (
        f"One of many images takes us {low if low == high else f'{low} to {high}'} % of the time of one alone: the rest comes "
        "with each call, however many images it has. ONNX Runtime goes through all layers in one call of its own."
    )


def caption(record: Record) -> str:
    """The drawing, and on what it was measured."""
    words = "Our training speed over each peer's, by network and batch size, with the spread over the rounds"
    return f"![{words}](bench.svg)\n\n{measured(record)}\n"


def measured(record: Record) -> str:
    """On what it was measured, and how often."""
    rounds = len(record["cells"][0]["peers"]["ours"]["images_per_second"])
    given = f"{rounds} rounds; given are the median and, in brackets, the smallest and the largest."
    return " ".join([machine(record), given, *doubts(record)])


def elsewhere(record: Record) -> str:
    """All tables of a machine without the highest kernels, in one piece."""
    return "\n".join([f"{measured(record)}\n", aims(record), short(record), training(record), learning(record), inference(record)])


def recorded(made: Callable[[Record], str], kernels: str = HIGHEST) -> str:
    """A table of the record of these kernels, or that there is none yet."""
    record = read_record("bench", kernels)
    return NOT_YET if record is None else made(record)


TABLES: dict[str, Callable[[], str]] = {
    "bench-drawing": partial(recorded, caption),
    "bench-targets": partial(recorded, aims),
    "bench-short": partial(recorded, short),
    "bench-training": partial(recorded, training),
    "bench-waiting": partial(recorded, waiting),
    "bench-learning": partial(recorded, learning),
    "bench-inference": partial(recorded, inference),
    "bench-float": partial(recorded, elsewhere, "avx2"),
}
