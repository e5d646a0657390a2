"""The tables of a study file, as frozen values: what was run, and what is claimed of it.

`fittingroom.study.file` reads them from TOML and writes out what a file abbreviates; ``docs/studies.md`` explains them with an example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "KINDS",
    "AnyClaim",
    "Claim",
    "Consistency",
    "Count",
    "Found",
    "Number",
    "Order",
    "Runs",
    "Scalar",
    "Seeds",
    "Selection",
    "Shape",
    "Study",
    "Unmeasured",
    "placed_selections",
    "selections_of",
    "with_selections",
]

Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Table(BaseModel):
    """Base of every table of a study: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Seeds(Table):
    """Seeds for some cells of a grid: more where the report speaks of them, fewer where a run takes long."""

    where: dict[str, Scalar]
    """Values that a cell has."""
    seeds: list[Seed]
    """The seeds of those cells."""


class Runs(Table):
    """One named variation of the base recipe, a grid of them, or what a search finds best."""

    about: str = ""
    """What it is, in the report's terms."""
    base: str | None = None
    """What to start from instead of the study's base: another run of the study, whose changes and assumptions it takes over (but not its
    grid nor its seeds), or else a shipped recipe or a model. A study as `load` returns it names recipes and models alone."""
    search: str | None = None
    """In place of a base, a space to be searched, by the name of one that comes with the program or as a file beside the study: the run is
    made with the values that win the search. What `set` and a cell of the grid change is changed in every recipe that is tried."""
    set: dict[str, Any] = {}
    """Changes to the base: ``optim.lr = 0.01``. An empty table takes a table of the recipe back to its defaults: ``augment = {}``."""
    grid: dict[str, list[Scalar]] = {}
    """Dotted keys (or names of `factors`) and the values of each: one run for every combination, in the order written, the last key
    changing fastest. In a study as `load` returns it the study's `readings` stand in it, first."""
    seeds: list[Seed] | None = None
    """Seeds of these runs; None takes the study's."""
    seeds_where: list[Seeds] = []
    """Other seeds for some cells; the last entry that fits a cell holds. Read them through `seeds_of`."""
    assumes: list[str] = []
    """Names of the assumptions that these runs rest on."""
    short: str = ""
    """In what these runs fall short of the report's own protocol by the study's choice: `6 of 50 epochs`. Every verdict on them says so."""


class Found(Table):
    """What a search of the study came to.

    Scores are in the units of the space's metric.
    """

    recipe: dict[str, Any]
    """The winner's, whole."""
    params: dict[str, Any]
    """The winner's values of what was searched."""
    trials: int
    """How many there were."""
    given_up: int
    """How many of them were pruned."""
    metric: str
    """What they were judged by."""
    best: float
    """The best score of a trial."""
    scores: dict[str, float] = Field(min_length=1)
    """The winner's, on seeds that no trial had, by seed."""


class Selection(Table):
    """Some runs of a study: all seeds of a named variation, or of the cells of a grid that have these values."""

    run: str
    """Name of the variation or grid."""
    where: dict[str, Scalar] = {}
    """Values that a cell of the grid has; empty means all its cells."""
    each: bool = False
    """Of runs that others are compared with: every cell stands for itself, but for those compared with it; else their mean is compared."""


class Claim(Table):
    """What all claims have."""

    id: Name
    """Unique in the study: lower case, digits and hyphens. One that holds for several readings gets their names appended."""
    text: str
    """The claim, in our words."""
    source: str
    """Where the report says it: a section, table or figure."""
    assumes: list[str] = []
    """Names of the assumptions that the verdict hangs on, beside those of its runs."""
    reading: dict[str, Scalar] = {}
    """Filled in by `load`: the reading that this claim is judged under, a value of each of the study's `readings` it hangs on."""


class Number(Claim):
    """A value of a metric."""

    kind: Literal["number"]
    of: Selection
    metric: str = ""
    """One of `METRICS`."""
    claimed: str = ""
    """The figure as printed, with its digits: `"0.90"`, `"91.98 %"`; `parse_claimed` reads it."""
    figures: dict[str, str] = {}
    """In place of the two, several figures of the same runs, by metric: `load` makes a claim of each and leaves this empty."""


class Order(Claim):
    """One group of runs above another on a metric, paired over seeds and over the factors they do not differ in.

    *Above* is a larger value, whatever the metric; for losses, durations and erraticness a `Shape` with ``relation = "less"`` reads better.
    """

    kind: Literal["order"]
    metric: str
    above: Selection
    below: list[Selection] = Field(min_length=1)
    """Each of them must lie below; with `relation = "at least"` or equal."""
    relation: Literal["above", "at least"] = "above"
    margin: float | None = Field(None, ge=0)
    """In the metric's units. `at least`: differences up to this count as none; where nothing is stated, 0.003 of accuracies and of the mean
    F1, and 0 of the rest. `above`: the difference must be larger than this; where nothing is stated, than 0."""


class Shape(Claim):
    """A measure of a curve: compared with another group's (`smoother than`), or with a stated epoch or value."""

    kind: Literal["shape"]
    of: Selection
    metric: str
    than: list[Selection] = []
    """Compared runs; empty where `claimed` states a value."""
    times: float = Field(1.0, gt=0)
    """What the values of `than` are multiplied by: with 0.5, `less` means less than half."""
    relation: Literal["less", "greater", "between"]
    claimed: list[float] = []
    """One number for `less` and `greater`, two for `between` (both included), in the metric's units; none where `than` is given."""


class Count(Claim):
    """A number that follows from the architecture alone."""

    kind: Literal["count"]
    of: Selection
    metric: Literal["parameters", "multiply_adds"]
    claimed: str
    """As printed: `"121k"`, `"54,410"`."""


class Consistency(Claim):
    """Whether the report agrees with itself and with the data set it names."""

    kind: Literal["consistency"]
    table: str | None = None
    """A published table, as text, to be audited."""
    data: str | None = None
    """The data set that the table is said to be of."""
    accuracy: list[str] = []
    """Figures quoted beside the table; without a table, accuracies said to be of the test images of `data`."""
    states: list[str] = []
    """What the report says of one and the same thing in several places; more than one distinct value is a contradiction."""


class Unmeasured(Claim):
    """What cannot be tested here, and why."""

    kind: Literal["not testable"]
    because: str


AnyClaim = Annotated[Number | Order | Shape | Count | Consistency | Unmeasured, Field(discriminator="kind")]
KINDS: dict[str, type[Claim]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in (Number, Order, Shape, Count, Consistency, Unmeasured)
}


class Study(Table):
    """A report as a file that runs."""

    name: str = ""
    """The file's name without its ending; given by `load`, never written in the file."""
    title: str
    """The report's title."""
    source: str
    """File name of the report, or where it can be found."""
    about: str = ""
    """What it did, in two or three sentences."""
    protocol: dict[str, str] = {}
    """What the report says of its protocol, by subject; "not stated" where it is silent."""
    base: str | dict[str, Any]
    """The base recipe: a shipped recipe's or model's name, or its values."""
    seeds: list[Seed] = [0, 1, 2]
    """Seeds of every run that does not say otherwise."""
    assumptions: dict[str, str] = {}
    """Each choice that the report leaves open, and what was chosen and why, by name."""
    factors: dict[str, str | dict[str, dict[str, Any]]] = {}
    """Short names for grids and selections: of a dotted key, `activation = "model.activation"`, or of several changes at once, each
    level with a name of its own, `augmentation = { without = {}, with = { "augment.rotate" = 10 } }`. A cell then has the level's name."""
    readings: dict[str, list[Scalar]] = {}
    """Factors in which the report can be read more than one way, and their values: every run whose own grid does not mention the factor
    is made in each, and every claim about numbers, orders and shapes that does not say which is judged for each."""
    runs: dict[Name, Runs] = Field(min_length=1)
    """The systems and experiments, by name."""
    claims: list[AnyClaim]
    """What it claims."""
    omitted: dict[str, str] = {}
    """What the report names and this study does not run or judge, and why."""
    found: dict[str, Found] = {}
    """What its searches found, by `search_key`; never in the file: `fittingroom.study.searches.with_found` fills it in from records."""


def selections_of(claim: Claim) -> list[Selection]:
    """All selections of a claim, in the order of its fields; empty for claims that no run is needed for."""
    return [selection for _, selection in placed_selections(claim)]


def placed_selections(claim: Claim) -> Iterator[tuple[str, Selection]]:
    """The selections of a claim, each with the place it stands in."""
    for field in ("of", "above", "below", "than"):
        value = getattr(claim, field, [])
        if isinstance(value, Selection):
            yield field, value
        else:
            yield from ((f"{field}[{index}]", one) for index, one in enumerate(value, 1))


def with_selections(claim: Claim, change: Callable[[Selection], Selection]) -> Claim:
    """The claim with each of its selections replaced."""
    update: dict[str, Any] = {}
    for field in ("of", "above", "below", "than"):
        value = getattr(claim, field, None)
        if value:
            update[field] = change(value) if isinstance(value, Selection) else [change(one) for one in value]
    return claim.model_copy(update=update)
