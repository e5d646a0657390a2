"""The report of a study: what a published report claims against what was measured, as one self-contained HTML page.

Everything shown was measured or is written in the study's file; what is missing is said. The page asks nothing of any server and is
complete without its script, which only adds the light switch.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from fittingroom.evaluate.curves import curve
from fittingroom.evaluate.metrics import class_scores
from fittingroom.files import write_text
from fittingroom.report import charts, study_charts, text
from fittingroom.report.shell import render_page
from fittingroom.report.study_charts import Bundle, Claimed, Limits, Point
from fittingroom.report.study_evidence import evidence
from fittingroom.report.study_factors import factor_sections
from fittingroom.report.study_runs import Variation, cell_words, gather, named_by, selected, selection_labels
from fittingroom.study.code import fingerprint
from fittingroom.study.grid import unsearched
from fittingroom.study.metrics import metric_words, parse_claimed
from fittingroom.study.plan import plan
from fittingroom.study.results import Failure, Result, fewer_seeds
from fittingroom.study.schema import Claim, Number, Study, selections_of
from fittingroom.study.verdict import Verdict
from fittingroom.study.wording import claimed_words

__all__ = ["StudyView", "render", "write_study_report"]

KINDS = {
    "reproduced": "held",
    "supported": "held",
    "higher than claimed": "higher",
    "lower than claimed": "lower",
    "not supported": "failed",
    "contradicted by the report itself": "contradicted",
    "undecided": "undecided",
    "not testable": "untestable",
    "not yet run": "waiting",
}
"""The sign and colour of each verdict."""
CURVES = ("train.accuracy", "validation.accuracy", "test.accuracy", "train.loss", "validation.loss", "test.loss")
"""Metrics that have a place in the pictures of curves."""
UNSHOWN = ("model", "data", "memory_peak")
"""Parts of an environment that belong to the run rather than to the place where it was made."""
MOST_MATRICES = 24
"""Most confusion matrices shown."""
FOLDED = 12
"""Grids of more cells than this have their curves folded away."""


@dataclass(frozen=True, eq=False)
class StudyView:
    """All that the page shows.

    Attributes:
        name: name of the study.
        study: its file.
        results: the finished runs, in any order.
        verdicts: one for each claim, in the file's order.
        failures: the runs that failed, in any order.
    """

    name: str
    study: Study
    results: Sequence[Result]
    verdicts: Sequence[Verdict]
    failures: Sequence[Failure] = ()


def write_study_report(
    study: Study, results: Sequence[Result], verdicts: Sequence[Verdict], path: Path, *, failures: Sequence[Failure] = (), name: str = ""
) -> Path:
    """Write a study's page to ``path`` and return it.

    Raises:
        FittingRoomError: it cannot be written there.
    """
    write_text(path, render(StudyView(name or study.name, study, results, verdicts, failures)))
    return path


def render(view: StudyView) -> str:
    """Return the whole page, from doctype to last newline; write it as UTF-8."""
    variations, progress = gather(view.study, view.results, view.failures), _progress(view)
    return render_page(
        "study.html",
        ["study.css"],
        ["study.js"],
        name=view.name,
        study=view.study,
        sign=study_charts.sign,
        state=_state(view, progress),
        headline=_headline(view),
        groups=_groups(view.verdicts),
        summary=_summary(view, variations, progress),
        facts=_facts(variations, progress),
        notices=_notices(view, variations, progress),
        claims=_claims(view, variations),
        readings=_readings(view.study),
        runs=_runs(variations),
        searches=_searches(view.study),
        curves=_curves(view, variations),
        factors=factor_sections(view.study, variations),
        cost=_cost(variations),
        timing_note=_timing_note(view.results),
        confusion=_confusion(view, variations),
        environment=_environments(view.results),
        codes=sorted(_codes(view.results).items()),
    )


@dataclass(frozen=True)
class _Progress:
    """How far a study is: its trainings as the runner counts them, one that several variations share but once.

    Attributes:
        done: how many of them are there.
        failed: how many failed, and would again.
        planned: how many there are to be.
        seconds: training time of those that are there.
    """

    done: int
    failed: int
    planned: int
    seconds: float

    @property
    def to_do(self) -> int:
        """How many are still to be made."""
        return self.planned - self.done - self.failed


def _progress(view: StudyView) -> _Progress:
    there = {result.place: result for result in view.results}
    lost = {failure.place for failure in view.failures} - there.keys()
    planned = plan(view.study)
    found = [result for one in planned if (result := there.get(one.place))]
    seconds = sum(sum(filter(None, curve(result.history, "train", "seconds"))) for result in found)
    return _Progress(len(found), sum(one.place in lost for one in planned), len(planned), seconds)


def _state(view: StudyView, progress: _Progress) -> dict[str, str]:
    if not progress.to_do and not unsearched(view.study):
        return {"kind": "partial", "word": "reduced"} if _reduced(view) else {"kind": "finished", "word": "complete"}
    return {"kind": "partial", "word": f"{progress.done:,} of {progress.planned:,} runs" if progress.done else "not run yet"}


def _reduced(view: StudyView) -> bool:
    """Say whether anything of it was trained for fewer epochs than the study asks for."""
    return any(result.reduced for result in view.results)


def _searches(study: Study) -> dict[str, str]:
    """Say what each search found."""
    said = {}
    for key, one in study.found.items():
        scores = list(one.scores.values())
        score = partial(text.percent, digits=2) if one.metric == "validation.accuracy" else "{:.4f}".format
        values = [f"{name} {it:.3g}" if isinstance(it, float) else f"{name} {text.value(it)}" for name, it in one.params.items()]
        said[key] = (
            f"Best: {', '.join(values)}. Of {text.plural(one.trials, 'trial')}, {one.given_up} of them given up, the best scored "
            f"{score(one.best)}; on {text.plural(len(scores), 'fresh seed')} the winner has {score(statistics.fmean(scores))} "
            f"({score(min(scores))} to {score(max(scores))})."
        )
    return said


def _groups(verdicts: Sequence[Verdict]) -> list[tuple[str, str, int]]:
    """Return kind, words and number of claims of each verdict that occurs, in the order of `KINDS`."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return [(KINDS[word], word, counts[word]) for word in sorted(counts, key=list(KINDS).index)]


def _headline(view: StudyView) -> dict[str, Any]:
    """Return the great figure: how many of the claims that could be judged held."""
    kinds = [KINDS[verdict.verdict] for verdict in view.verdicts]
    judged = sum(kind not in ("undecided", "untestable", "waiting") for kind in kinds)
    tape = study_charts.verdict_tape(_groups(view.verdicts)) if kinds else None
    if not judged or not view.results:
        word = "No claims" if not kinds else "Not judged" if view.results else "Not run yet"
        return {"word": word, "label": text.plural(len(kinds), "claim"), "tape": tape}
    open_claims = len(kinds) - judged
    note = f"{text.plural(open_claims, 'more claim')} not decided" if open_claims else "every claim is decided"
    if view.study.readings:
        note += "; a claim that can be read in several ways counts once for each"
    return {
        "word": None,
        "label": "Claims that held in reduced runs" if _reduced(view) else "Claims that held",
        "number": kinds.count("held"),
        "of": judged,
        "note": note,
        "tape": tape,
    }


def _summary(view: StudyView, variations: Sequence[Variation], progress: _Progress) -> list[str]:
    there = [v for v in variations if v.results]
    if not there:
        return [f"Nothing has been trained yet; fittingroom study run {view.name} does it."]
    data = sorted({str(result.recipe.get("data", {}).get("name", "")) for result in view.results} - {""})
    on = f" on {' and '.join(data)}" if data else ""
    return [f"Trained anew here: {text.plural(len(there), 'variation')}{on}, {text.plural(progress.done, 'run')} in all."]


def _facts(variations: Sequence[Variation], progress: _Progress) -> list[dict[str, str]]:
    done, planned = progress.done, progress.planned
    failed = f"{progress.failed} failed" if progress.failed else ""
    facts = [{"label": "Runs", "value": f"{done:,} of {planned:,}" if done < planned else f"{done:,}", "note": failed}]
    seeds = sorted({len(v.results) for v in variations if v.results})
    if seeds:
        facts.append({"label": "Seeds a run", "value": "–".join(map(str, sorted({seeds[0], seeds[-1]}))), "note": ""})
    if progress.seconds:
        facts.append({"label": "Training time", "value": text.duration(progress.seconds), "note": "of all runs together"})
    by_data = _by_data(variations)
    if by_data:
        data = next(iter(by_data))  # accuracies on different data sets cannot be ranked
        best = _ranked(by_data[data])[0]
        split = "test" if best.accuracies("test") or best.on_test else "validation"
        label = f"Best {split} accuracy{f' on {data}' if len(by_data) > 1 else ''}"
        facts.append({"label": label, "value": text.percent(statistics.fmean(best.judged)), "note": best.label})
    return facts


def _notices(view: StudyView, variations: Sequence[Variation], progress: _Progress) -> list[str]:
    """Return whatever a reader must know to judge the figures."""
    notices = []
    if progress.to_do:
        missing = [v for v in variations if v.waits]
        names = f" Not run at all: {_by_run(missing, variations)}." if missing and progress.done else ""
        notices.append(f"{progress.done:,} of {progress.planned:,} runs done; claims on the others wait.{names}")
    if failed := [v for v in variations if v.failed]:
        notices.append(f"Failed, and would again: {text.plural(progress.failed, 'run')} of {_by_run(failed, variations)}.")
    if waiting := unsearched(view.study):
        notices.append(f"Not searched yet, so what it finds is not run: {', '.join(waiting)}.")
    short = Counter(reason for result in view.results for reason in result.reduced)
    for reason, count in short.most_common():
        notices.append(f"Reduced: {reason} in {text.plural(count, 'run')}. Such figures are no test of the report's own protocol.")
    for reason, count in fewer_seeds(view.study, view.results).most_common():
        notices.append(f"Fewer seeds than the study asks for: {reason} in {text.plural(count, 'variation')}.")
    single = [v for v in variations if len(v.results) == 1]
    if single:
        notices.append(f"One seed only, so nothing is known of their spread: {_by_run(single, variations)}.")
    on_test = [v for v in variations if v.on_test]
    if on_test:
        notices.append(f"Measured on the test images after every epoch, so no estimate for unseen images: {_by_run(on_test, variations)}.")
    codes = _codes(view.results)
    if earlier := sum(count for (model, code), count in codes.items() if code != fingerprint(model)):
        whose = f"{earlier:,} of {text.plural(codes.total(), 'run')}"
        meaning = "which need not change a figure; `study run` makes such runs again unless told to keep them"
        notices.append(f"Made by an earlier state of the code, {meaning}: {whose}.")
    if several := [model for model, count in Counter(model for model, _ in codes).items() if count > 1]:
        notices.append(f"Runs of one model were made by different states of the code, see the environment: {', '.join(several)}.")
    return notices


def _by_run(some: Sequence[Variation], variations: Sequence[Variation], most: int = 8) -> str:
    """Return the names of the runs that some variations belong to, each once, with how many of its variations where not all are meant."""
    counts, wholes = Counter(v.run for v in some), Counter(v.run for v in variations)
    names = [run if count == wholes[run] else f"{run} ({count} of {wholes[run]} variations)" for run, count in counts.items()]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _codes(results: Sequence[Result]) -> Counter[tuple[str, str]]:
    """Return how many runs were made of each model by each state of the code: fingerprints are of a model and what it builds on."""
    # Variations can share a training.
    distinct = {(json.dumps(result.recipe, sort_keys=True), result.seed, result.code): result for result in results}
    return Counter((str(result.recipe.get("model", {}).get("name", "")), result.code) for result in distinct.values())


def _readings(study: Study) -> list[str]:
    """Say in what ways the report can be read, and what each of them sets."""
    told = []
    for factor, values in study.readings.items():
        levels = study.factors.get(factor, factor)
        ways = []
        for value in values:
            changes = levels[str(value)] if isinstance(levels, Mapping) else {}
            set_to = ", ".join(f"{key} = {text.value(item)}" for key, item in text.flatten(changes).items())
            ways.append(f"{cell_words(study, {factor: value})}{f' ({set_to})' if set_to else ''}")
        told.append(f"It can be read as {' or as '.join(ways)}; a claim that leaves this open is judged for each.")
    return told


def _claims(view: StudyView, variations: Sequence[Variation]) -> list[dict[str, Any]]:
    """Return the rows of the table of claims. The readings of one and the same claim stand together, and its text stands once."""
    rows = [_claim(view.study, variations, number, verdict) for number, verdict in enumerate(view.verdicts)]
    for before, row in pairwise(rows):
        row["continued"] = bool(row["reading"]) and all(before[key] == row[key] for key in ("text", "source", "metric"))
    return rows


def _claim(study: Study, variations: Sequence[Variation], number: int, verdict: Verdict) -> dict[str, Any]:
    """Return a row of the table of claims with all that lies below it."""
    claim = verdict.claim
    runs = named_by(study, variations, claim)
    names = [*claim.assumes, *(name for run in dict.fromkeys(v.run for v in runs) for name in study.runs[run].assumes)]
    # What the caution "hangs on assumptions" names, the evidence tells in full.
    cautions = [caution for caution in verdict.cautions if not caution.startswith("hangs on")]
    return {
        "number": number,
        "id": claim.id,
        "text": claim.text,
        "reading": cell_words(study, claim.reading),
        "metric": getattr(claim, "metric", ""),
        "continued": False,
        "source": claim.source,
        "claimed": _claimed(study, claim),
        "measured": verdict.measured,
        "kind": KINDS[verdict.verdict],
        "verdict": verdict.verdict,
        "sentence": verdict.sentence,
        "cautions": cautions,
        "assumptions": [(name, study.assumptions.get(name, "")) for name in dict.fromkeys(names)],
        "runs": [v for v in runs if v.results],
        "missing": [v.label for v in runs if v.waits],
        "evidence": evidence(f"claim-{number}", study, verdict),
    }


def _claimed(study: Study, claim: Claim) -> str:
    """Return what the report says, in the few words that a cell has room for."""
    first, *rest = selection_labels(study, selections_of(claim)) or [""]
    return claimed_words(claim, first, " and ".join(rest) if len(rest) <= 2 else f"each of {len(rest)} others") or "—"


def _ranked(variations: Sequence[Variation]) -> list[Variation]:
    """Return those with an accuracy, the best mean first."""
    return sorted((v for v in variations if v.judged), key=lambda v: -statistics.fmean(v.judged))


def _runs(variations: Sequence[Variation]) -> dict[str, Any] | None:
    """Return the tables of runs, the named variations first and then each grid; best first, those without an accuracy last."""
    there = [*_ranked(variations), *(v for v in variations if v.results and not v.judged)]
    if not there:
        return None
    scale = study_charts.limits([value for v in there for value in v.judged], "percent") or (0.0, 1.0)
    return {
        "tables": [_runs_table(family, scale) for family in _families(there)],
        "scale": tuple(text.percent(edge, 0) for edge in scale),
        "failed": [v for v in variations if v.failed],
        "waiting": [v for v in variations if v.waits],
    }


def _families(there: Sequence[Variation]) -> list[list[Variation]]:
    """Return the named variations together, and each grid for itself, in the given order; none is empty."""
    grids = sorted({v.run for v in there if v.of_grid}, key=lambda run: min(v.number for v in there if v.run == run))
    families = [[v for v in there if not v.of_grid], *([v for v in there if v.run == grid] for grid in grids)]
    return [family for family in families if family]


def _runs_table(family: Sequence[Variation], scale: Limits) -> dict[str, Any]:
    rows = [
        {
            "run": v,
            "label": v.cell_label if v.of_grid else v.label,
            "curves": v.epochs > 1,
            "test": _spread(v.accuracies("test")),
            "validation": _spread(v.accuracies("validation")),
            "strip": study_charts.seed_strip(v.judged, scale),
            "parameters": _written(v.size("parameters")),
            "epochs": _range([result.epochs for result in v.results]),
            "seconds": "—" if v.seconds is None else text.duration(v.seconds),
        }
        for v in family
    ]
    grid = family[0].run if family[0].of_grid else ""
    ends = [f"{text.percent(statistics.fmean(v.judged))} ({v.cell_label})" for v in (family[0], family[-1]) if v.judged]
    return {"grid": grid, "about": family[0].about if grid else "", "rows": rows, "folded": bool(grid) and len(rows) > FOLDED, "ends": ends}


def _spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds, in per cent; of one seed there is no spread."""
    if not values:
        return "—"
    mean = f"{statistics.fmean(values) * 100:.2f}"
    return f"{mean} ± {statistics.stdev(values) * 100:.2f}" if len(values) > 1 else mean


def _written(count: int | None) -> str:
    return "—" if count is None else f"{count:,}"


def _range(numbers: Sequence[float]) -> str:
    return "–".join(f"{number:g}" for number in sorted({min(numbers), max(numbers)}))


def _curves(view: StudyView, variations: Sequence[Variation]) -> dict[str, Any] | None:
    """Return the small multiples: the named variations together, each grid for itself, on common scales."""
    drawn = [v for v in variations if v.epochs > 1]
    if not drawn:
        return None
    figures = _figures(view, drawn)
    groups = [_family(family, figures) for family in _families(drawn)]
    return {"groups": groups, "single": [v.label for v in variations if v.results and v.epochs <= 1]}


def _family(family: Sequence[Variation], figures: Mapping[int, Sequence[Number]]) -> dict[str, Any]:
    scales = {quantity: _scale(family, quantity) for quantity in ("accuracy", "loss")}
    panels = [
        {
            "run": v,
            "seeds": len(v.results),
            "charts": [(quantity, _panel(v, quantity, scale, figures.get(v.number, ()))) for quantity, scale in scales.items() if scale],
            "claimed": [(metric_words(claim.metric), claim.claimed) for claim in figures.get(v.number, ())],
        }
        for v in family
    ]
    grid = family[0].run if family[0].of_grid else ""
    return {"grid": grid, "panels": panels, "folded": len(family) > FOLDED}


def _scale(family: Sequence[Variation], quantity: str) -> Limits | None:
    lines = [line for v in family for part in ("train", "validation") for line in v.curves(part, quantity)]
    unit: Literal["percent", "plain"] = "percent" if quantity == "accuracy" else "plain"
    return study_charts.limits([item for line in lines for item in line if item is not None], unit)


def _panel(v: Variation, quantity: str, scale: Limits, figures: Sequence[Number]) -> Markup:
    parts: tuple[Literal["train", "validation"], ...] = ("train", "validation")
    bundles = [Bundle(lines, part) for part in parts if (lines := v.curves(part, quantity))]
    claimed = [mark for claim in figures if (mark := _mark(claim, quantity))]
    return study_charts.bundle_chart(
        f"{quantity}-{v.number}",
        bundles,
        title=f"{quantity.capitalize()} of {v.label} by epoch",
        unit="percent" if quantity == "accuracy" else "plain",
        y_limits=scale,
        epochs=v.epochs,
        claimed=claimed,
    )


def _figures(view: StudyView, variations: Sequence[Variation]) -> dict[int, list[Number]]:
    """Return, by a variation's number, the claims on figures that have a place in its curves."""
    found: dict[int, list[Number]] = {}
    for claim in (verdict.claim for verdict in view.verdicts):
        if isinstance(claim, Number) and claim.metric.split("@")[0] in CURVES:
            for v in selected(view.study, variations, claim.of):
                found.setdefault(v.number, []).append(claim)
    return found


def _mark(claim: Number, quantity: str) -> Claimed | None:
    """Return the claimed figure as a mark in the picture of a quantity, if it belongs there."""
    metric, _, epoch = claim.metric.partition("@")
    split, _, what = metric.partition(".")
    if what != quantity:
        return None
    return Claimed(parse_claimed(claim.claimed).value, split, int(epoch) if epoch.isdecimal() else None)


def _cost(variations: Sequence[Variation]) -> list[tuple[str, Markup, list[dict[str, Any]]]]:
    """Return accuracy against training time, and against multiply-adds where at least two models have them; on each data set."""
    charted = []
    by_data = _by_data(variations)
    axes: tuple[tuple[str, Literal["seconds", "count"]], ...] = (("training time", "seconds"), ("multiply-adds per image", "count"))
    for (number, (data, there)), (axis, unit) in product(enumerate(by_data.items()), axes):
        costs = [(v, v.seconds if unit == "seconds" else v.size("multiply_adds")) for v in there]
        points = [_point(v, float(cost)) for v, cost in costs if cost]
        if points and max(point.x for point in points) > 1.05 * min(point.x for point in points):
            # Times of different machines put nobody in front of anybody.
            ranked = unit == "count" or len({result.machine for v in there for result in v.results}) == 1
            front = study_charts.pareto_front([(point.x, point.y) for point in points]) if ranked else []
            listed = [{"label": points[i].label, "anchor": points[i].anchor, "accuracy": text.percent(points[i].y)} for i in front]
            title = f"Accuracy{f' on {data}' if len(by_data) > 1 else ''} against {axis}"
            drawn = study_charts.scatter(f"cost-{unit}-{number}", points, title=title, axis=axis, unit=unit, ranked=ranked)
            charted.append((title, drawn, listed))
    return charted


def _by_data(variations: Sequence[Variation]) -> dict[str, list[Variation]]:
    """Return those with an accuracy by their data set, in the study's order."""
    found: dict[str, list[Variation]] = {}
    for v in variations:
        if v.judged:
            found.setdefault(v.data, []).append(v)
    return found


def _point(v: Variation, cost: float) -> Point:
    whisker = (min(v.judged), max(v.judged)) if len(v.judged) > 1 else None
    return Point(v.label, cost, statistics.fmean(v.judged), whisker, v.anchor)


def _confusion(view: StudyView, variations: Sequence[Variation]) -> dict[str, Any] | None:
    """Return the matrices of the first seed of each named variation, and of a grid's best, worst and claimed cells."""
    claimed = {v.number for verdict in view.verdicts for v in _single_cells(view.study, variations, verdict.claim)}
    ranked = _ranked(variations)
    grids = [[v for v in ranked if v.run == name] for name in {v.run for v in ranked if v.of_grid}]
    ends = {v.number for cells in grids for v in (cells[0], cells[-1])}
    chosen = [v for v in ranked if not v.of_grid or v.number in claimed | ends]
    shown = [matrix for v in chosen[:MOST_MATRICES] if (matrix := _matrix(v))]
    return {"shown": shown, "more": len(chosen[MOST_MATRICES:])} if shown else None


def _single_cells(study: Study, variations: Sequence[Variation], claim: Claim) -> list[Variation]:
    found = [selected(study, variations, selection) for selection in selections_of(claim)]
    return [cells[0] for cells in found if len(cells) == 1]


def _matrix(v: Variation) -> dict[str, Any] | None:
    for result in v.results:
        split = "test" if result.evaluation.get("test") else "validation"
        part = result.evaluation.get(split) or {}
        if part.get("confusion") and part.get("classes"):
            classes, counts = part["classes"], part["confusion"]
            small = len(classes) <= 30
            return {
                "run": v,
                "seed": result.seed,
                "split": "test" if v.on_test else split,
                "accuracy": text.percent(float(part["accuracy"]), 2),
                "chart": charts.confusion_table(classes, counts, walkable=False) if small else charts.sparse_confusion(classes, counts),
                "scores": charts.class_bars(classes, class_scores(counts)),
            }
    return None


def _environments(results: Sequence[Result]) -> dict[str, Any] | None:
    """Return what the environments of all runs have in common, and in what they differ with the number of runs for each."""
    flat = [text.flatten({key: item for key, item in result.environment.items() if key not in UNSHOWN}) for result in results]
    written = [{key.replace("_", " ").replace(".", " · "): text.value(item) for key, item in values.items()} for values in flat]
    if not written:
        return None
    shared = {key: item for key, item in written[0].items() if all(values.get(key) == item for values in written)}
    rest = Counter(tuple((key, item) for key, item in values.items() if key not in shared) for values in written)
    return {"shared": list(shared.items()), "differing": [(count, list(values)) for values, count in rest.most_common() if values]}


def _timing_note(results: Sequence[Result]) -> str:
    """Return a warning where the times come from machines that cannot be compared."""
    machines = {result.machine for result in results}
    told = "The training times are of different processors, kernels, devices or numbers of threads, so that nobody is in front there."
    return told if len(machines) > 1 else ""
