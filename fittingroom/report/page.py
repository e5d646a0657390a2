"""The report of one run: plain values in, one self-contained HTML page out.

The page asks nothing of any server: style, script, charts and pictures are inside, and its content security policy allows
just these (by their hashes) and nothing else. It is complete without its script, which adds read-outs and the light switch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fittingroom.evaluate import CurveMeasures, Evaluation
from fittingroom.evaluate.curves import curve
from fittingroom.report import charts, text
from fittingroom.report.pictures import data_uri
from fittingroom.report.shell import render_page

__all__ = ["Picture", "RunView", "render"]

TABLE_CLASSES = 30
"""Up to this many classes the confusion matrix is a table; above, a picture with the list of the most frequent confusions."""
TABLE_EPOCHS = 200
"""Most epochs listed in the table behind the curves; of more, every second, third, … is listed."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A misclassified image.

    Attributes:
        pixels: uint8 ``[height, width, channels]``, channels 1 or 3.
        true: name of its class.
        predicted: name of the class it was taken for.
        probability: what the model gave to the latter, in [0, 1].
    """

    pixels: NDArray[np.uint8]
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, eq=False)
class RunView:
    """All that a report shows, as plain values; only the first six are needed.

    Attributes:
        title: name of the run, usually its folder's.
        model: name of the model.
        data: name of the data set.
        state: `created`, `running`, `finished`, `stopped` or `failed`.
        recipe: the recipe's values, nested as in its file.
        origins: where each of them came from, by dotted key; `default` for what nobody chose.
        reason: why the run stopped or failed.
        environment: versions, device, threads, precision, checksums; may be nested.
        history: one mapping an epoch, as in `metrics.jsonl`.
        validation: evaluation on the validation images.
        test: evaluation on the test images, or None while they are sealed.
        test_openings: each opening of the test set, with `time` and `reason`.
        validation_is_test: whether the run validated on the test images after each epoch, a flaw that the page names.
        pictures: the surest mistakes, surest first.
        pictures_from: the split they are from, `test` or `validation`.
        samples: number of images per class, by split: ``{"train": [4800, …], "validation": […]}``, by label.
        training_images: how many images were learnt from; None takes the sum of ``samples["train"]``, where given.
        parameters: number of the model's weights.
        multiply_adds: multiplications with addition for one image.
        seconds: duration of training.
        kept_epoch: epoch whose weights were kept.
        measures: erraticness, convergence and gap of the curves.
        notices: whatever a reader must know to judge the figures, one line each.
        device: what it was trained on, for the summary: ``"2 CPU threads, bf16"``.
    """

    title: str
    model: str
    data: str
    state: str
    recipe: Mapping[str, Any]
    origins: Mapping[str, str]
    reason: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    validation: Evaluation | None = None
    test: Evaluation | None = None
    test_openings: Sequence[Mapping[str, str]] = ()
    validation_is_test: bool = False
    pictures: Sequence[Picture] = ()
    pictures_from: str = "validation"
    samples: Mapping[str, Sequence[int]] = field(default_factory=dict)
    training_images: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    kept_epoch: int | None = None
    measures: CurveMeasures | None = None
    notices: Sequence[str] = ()
    device: str = ""

    @property
    def judged(self) -> Evaluation | None:
        """The evaluation that the page speaks of: test where it was opened, validation otherwise."""
        return self.test or self.validation

    @property
    def judged_on(self) -> str:
        """The split of `judged`, in a reader's words."""
        return "test" if self.test or self.validation_is_test else "validation"


@dataclass(frozen=True)
class _Fact:
    """A figure of the strip below the headline."""

    label: str
    value: str
    note: str = ""


def render(run: RunView) -> str:
    """Return the whole page, from doctype to last newline; write it as UTF-8."""
    return render_page(
        "report.html",
        scripts=["script.js"],
        run=run,
        headline=_headline(run),
        summary=_summary(run),
        facts=_facts(run),
        curves=_curves(run),
        confusion=_confusion(run),
        classes=_classes(run),
        calibration=_calibration(run),
        pictures=[(data_uri(picture.pixels), picture) for picture in run.pictures],
        recipe=_recipe(run),
        environment=_environment(run.environment),
        seal=_seal(run),
    )


def _headline(run: RunView) -> dict[str, Any]:
    """Return the great figure at the top with its interval, or the run's state where there is none."""
    judged = run.judged
    if judged is None:
        words = {"failed": "Failed", "stopped": "Stopped", "running": "Running", "created": "Not started"}
        return {"word": words.get(run.state, "Not measured"), "label": "No evaluation", "tape": None}
    low, high = judged.interval
    digits = 2 if judged.count >= 5000 else 1
    marks = [(run.judged_on.capitalize(), judged.accuracy, judged.interval)]
    if run.test is not None and run.validation is not None and not run.validation_is_test:
        marks.append(("Validation", run.validation.accuracy, run.validation.interval))
    return {
        "word": None,
        "label": f"{run.judged_on.capitalize()} accuracy",
        "number": f"{judged.accuracy * 100:.{digits}f}",
        "half": f"{(high - low) * 50:.{digits}f}",
        "low": text.percent(low, digits),
        "high": text.percent(high, digits),
        "right": f"{judged.correct:,}",
        "count": f"{judged.count:,}",
        "tape": charts.tape(marks, digits),
    }


def _summary(run: RunView) -> list[Markup]:
    """Return what was trained, on what, for how long, and what it confuses most, in plain sentences."""
    sentences = [_training_sentence(run)]
    judged = run.judged
    if run.state == "failed":
        reason = run.reason.strip().rstrip(".") or "no reason was recorded"
        sentences.append(Markup("Training failed: {}.").format(reason))
    if judged is None:
        return sentences
    seen = "" if run.judged_on == "validation" or run.validation_is_test else " it had never seen"
    right = (f"{judged.correct:,}", f"{judged.count:,}", run.judged_on, seen)
    sentences.append(Markup("It gets <strong>{} of {}</strong> {} images{} right.").format(*right))
    if judged.confused_pairs:
        pair = judged.confused_pairs[0]
        support = judged.scores[pair.true].support
        sentences.append(
            Markup("What it confuses most: <em>{}</em> taken for <em>{}</em>, {} times in {}.").format(
                judged.classes[pair.true], judged.classes[pair.predicted], f"{pair.count:,}", f"{support:,}"
            )
        )
    return sentences


def _training_sentence(run: RunView) -> Markup:
    images = run.training_images or sum(run.samples.get("train", ()))
    planned = run.recipe.get("train", {}).get("epochs", math.inf)
    epochs = min(len(run.history), planned)  # the last may have been cut short
    manner = [text.plural(epochs, "epoch")] if len(run.history) > 1 else []
    manner += [run.device] if run.device else []
    verb = {"running": "is learning", "created": "is to learn", "finished": "learnt"}.get(run.state, "began to learn")
    return Markup("<strong>{}</strong> {} <strong>{}</strong>{}{}{}.").format(
        run.model,
        verb,
        run.data,
        f" from {text.plural(images, 'image')}" if images else "",
        f" in {text.duration(run.seconds)}" if run.seconds is not None and run.state == "finished" else "",
        f" ({', '.join(manner)})" if manner else "",
    )


def _facts(run: RunView) -> list[_Fact]:
    facts = []
    judged = run.judged
    if run.parameters is not None:
        facts.append(_Fact("Parameters", f"{run.parameters:,}"))
    if run.multiply_adds is not None:
        facts.append(_Fact("Multiply-adds", text.compact(run.multiply_adds), "per image"))
    if run.seconds is not None:
        facts.append(_Fact("Training time", text.duration(run.seconds)))
    speeds = [speed for speed in curve(run.history, "train", "images_per_second") if speed]
    if speeds:
        facts.append(_Fact("Speed", f"{statistics.median(speeds):,.0f}", "images a second, median epoch"))
    if judged is not None:
        facts.append(_Fact("Loss", f"{judged.loss:.4f}", f"{run.judged_on}, cross-entropy"))
        facts.append(_Fact("Macro F1", f"{judged.macro.f1:.3f}", f"{run.judged_on}, mean over classes"))
    return facts


def _curves(run: RunView) -> dict[str, Any] | None:
    """Return the two charts with their table and measures; a single epoch gives figures in place of charts."""
    if not run.history:
        return None
    step = -(-len(run.history) // TABLE_EPOCHS)
    table = {"rows": _epoch_rows(run.history)[::step], "step": step}
    if len(run.history) == 1:
        return {**table, "charts": [], "measures": _only_epoch(run.history)}
    drawn = [_chart(run, "accuracy", "percent"), _chart(run, "loss", "plain")]
    return {**table, "charts": drawn, "measures": _measures(run.measures)}


def _chart(run: RunView, quantity: str, unit: Literal["percent", "plain"]) -> tuple[str, Markup, str]:
    series = [charts.Series("training", curve(run.history, "train", quantity), "train")]
    validation = curve(run.history, "validation", quantity)
    if any(value is not None for value in validation):
        series.append(charts.Series("validation", validation, "validation"))
    title, description = quantity.capitalize(), charts.spoken_curve(series, unit)
    drawn = charts.line_chart(quantity, series, title=f"{title} by epoch", description=description, unit=unit, kept=run.kept_epoch)
    at = run.kept_epoch if run.kept_epoch and run.kept_epoch <= len(run.history) else len(run.history)
    write = (lambda value: text.percent(value, 2)) if unit == "percent" else "{:.4f}".format
    figures = [f"{line.name} {write(value)}" for line in series if (value := line.values[at - 1]) is not None]
    return title, drawn, f"epoch {at}{', kept' if at == run.kept_epoch else ''}: {', '.join(figures)}"


def _only_epoch(history: Sequence[Mapping[str, Any]]) -> list[_Fact]:
    found = []
    for part, name in (("train", "Training"), ("validation", "Validation")):
        accuracy, loss = curve(history, part, "accuracy")[0], curve(history, part, "loss")[0]
        if accuracy is not None:
            found.append(_Fact(f"{name} accuracy", text.percent(accuracy, 2), "" if loss is None else f"loss {loss:.4f}"))
    return found


def _epoch_rows(history: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    columns = [("train", "loss"), ("train", "accuracy"), ("validation", "loss"), ("validation", "accuracy"), ("train", "seconds")]
    values = [curve(history, part, quantity) for part, quantity in columns]
    formats = [".4f", ".4f", ".4f", ".4f", ".2f"]
    return [
        [str(line.get("epoch", number))] + ["—" if item is None else format(item, form) for item, form in zip(row, formats, strict=True)]
        for number, (line, *row) in enumerate(zip(history, *values, strict=True), 1)
    ]


def _measures(measures: CurveMeasures | None) -> list[_Fact]:
    if measures is None or measures.epochs < 3:
        return []
    found = []
    if measures.erraticness_accuracy is not None:
        note = "how far an epoch strays, on average, from the line between its neighbours; 0 is smooth"
        found.append(_Fact("Erraticness", text.points(measures.erraticness_accuracy, 2), note))
    if measures.epochs_to_95 is not None:
        note = "until validation accuracy has covered 95 % of the way from its first to its best value"
        if measures.time_constant is not None:
            note += f"; time constant {measures.time_constant:.1f}"
        found.append(_Fact("Convergence", f"{measures.epochs_to_95:.1f} epochs", note))
    if measures.gap is not None:
        opens = "never stays above one point" if measures.gap_opens is None else f"above one point from epoch {measures.gap_opens} on"
        found.append(_Fact("Gap at the end", text.points(measures.gap), f"training ahead of validation; {opens}"))
    return found


def _confusion(run: RunView) -> dict[str, Any] | None:
    judged = run.judged
    if judged is None:
        return None
    small = len(judged.classes) <= TABLE_CLASSES
    draw = charts.confusion_table if small else charts.sparse_confusion
    pairs = [(judged.classes[p.true], judged.classes[p.predicted], p.count, text.percent(p.share)) for p in judged.confused_pairs]
    legend = [("hit", charts.legend_steps(charts.HIT_STEPS)), ("miss", charts.legend_steps(charts.ERROR_STEPS))]
    return {"small": small, "chart": draw(judged.classes, judged.confusion), "pairs": pairs, "legend": legend}


def _classes(run: RunView) -> dict[str, Any] | None:
    judged = run.judged
    if judged is None:
        return None
    samples = [(split, counts) for split, counts in run.samples.items() if len(counts) == len(judged.classes) and any(counts)]
    return {
        "chart": charts.class_bars(judged.classes, judged.scores),
        "report": judged.classification_report(digits=4),
        "samples": samples,
        "names": judged.classes,
        "balance": [(split, sum(counts), min(counts), max(counts)) for split, counts in samples],
    }


def _calibration(run: RunView) -> dict[str, Any] | None:
    judged = run.judged
    if judged is None:
        return None
    over = judged.overconfidence
    if abs(over) < 0.005:
        verdict = "On average it is as sure as it is right, to within half a point."
    else:
        comparison = "surer than it is right" if over > 0 else "more often right than it is sure"
        verdict = f"On average it is {text.points(abs(over))} {comparison}."
    rows = [
        (f"{part.lower:.2f}–{part.upper:.2f}", f"{part.count:,}", f"{part.confidence:.3f}", f"{part.accuracy:.3f}")
        for part in judged.bins
        if part.count
    ]
    facts = [
        _Fact("Expected calibration error", text.percent(judged.expected_calibration_error, 2), f"{len(judged.bins)} equal-width bins"),
        _Fact("Brier score", f"{judged.brier:.4f}", "summed over classes; 0 is perfect, 2 the worst"),
    ]
    return {"chart": charts.reliability_diagram(judged.bins), "verdict": verdict, "facts": facts, "rows": rows}


def _recipe(run: RunView) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the recipe's values by table, each with its origin."""
    tables: dict[str, list[tuple[str, str, str]]] = {}
    for key, item in text.flatten(run.recipe).items():
        table, _, rest = key.partition(".")
        name, group = (rest, table) if rest and table != "model" else (key, "run")
        tables.setdefault(group, []).append((name, text.value(item), run.origins.get(key, "default")))
    return list(tables.items())


def _environment(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key.replace("_", " ").replace(".", " · "), text.value(item)) for key, item in text.flatten(values).items()]


def _seal(run: RunView) -> dict[str, str]:
    """Return the state of the test set's seal, in one word and one sentence."""
    count = len(run.test_openings)
    if run.validation_is_test:
        return {
            "kind": "broken",
            "short": "Test set used for validation",
            "long": "This run measured itself on the test images after every epoch, so its figure is no estimate for unseen images.",
        }
    if run.test is None and not count:
        return {
            "kind": "sealed",
            "short": "Test set sealed",
            "long": "Nobody has looked at the test images. Every choice was made on validation images, "
            "so the figure that the first opening gives will be an honest one.",
        }
    if not count:
        return {"kind": "opened", "short": "Test set opened", "long": "The test set was opened, and no record says when or why."}
    times = "1 time" if count == 1 else f"{count} times"
    meaning = (
        "The figure is that of a first look."
        if count == 1
        else "Whoever chose between models after the first look should not take the last figure for an estimate on unseen images."
    )
    return {"kind": "opened", "short": f"Test set opened {times}", "long": f"The test set was opened {times}. {meaning}"}
