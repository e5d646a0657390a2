"""The study file: what a report built and claimed, as one frozen, checked value. Nothing here trains or judges.

A study is written in TOML (``docs/studies.md`` explains it with an example). It holds recipes only as changes to a base recipe, so
that what differs between two runs is what is written down.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Claim", "Consistency", "Count", "Number", "Order", "Runs", "Selection", "Shape", "Study", "Unmeasured"]

Scalar = bool | int | float | str


class Table(BaseModel):
    """Base of every table of a study: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Runs(Table):
    """One named variation of the base recipe, or a grid of them."""

    about: str = ""
    """What it is, in the report's terms."""
    base: str | None = None
    """A shipped recipe or model to start from instead of the study's base."""
    set: dict[str, Any] = {}
    """Changes to the base: dotted keys and values."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys (or aliases of `factors`) and the values of each: one run for every combination, in the order written."""
    seeds: list[int] | None = None
    """Seeds of these runs; None takes the study's."""
    assumes: list[str] = []
    """Names of the assumptions that these runs rest on."""


class Selection(Table):
    """Some runs of a study: all seeds of a named variation, or of the cells of a grid that have these values."""

    run: str
    """Name of the variation or grid."""
    where: dict[str, Scalar] = {}
    """Values that a cell of the grid has; empty means all its cells."""


class Claim(Table):
    """What all claims have."""

    id: str
    """Unique in the study: lower case, digits and hyphens."""
    text: str
    """The claim, in our words."""
    source: str
    """Where the report says it: a section, table or figure."""
    assumes: list[str] = []
    """Names of the assumptions that the verdict hangs on, beside those of its runs."""


class Number(Claim):
    """A value of a metric."""

    kind: Literal["number"]
    of: Selection
    metric: str
    """What `fittingroom.study.results.measure` can tell of a run."""
    claimed: str
    """The figure as printed, with its digits: `"0.90"`, `"91.98 %"`."""


class Order(Claim):
    """One group of runs above another on a metric, paired over seeds and over the factors they do not differ in."""

    kind: Literal["order"]
    metric: str
    above: Selection
    below: list[Selection]
    """Each of them must lie below; with `relation = "at least"` or equal."""
    relation: Literal["above", "at least"] = "above"
    margin: float = Field(0.0, ge=0)
    """Differences up to this count as none (for `at least`), in the metric's units."""


class Shape(Claim):
    """A measure of a curve: compared with another group's (`smoother than`), or with a stated epoch or value."""

    kind: Literal["shape"]
    of: Selection
    metric: str
    than: list[Selection] = []
    """Compared runs; empty where `claimed` states a value."""
    relation: Literal["less", "greater", "between"]
    claimed: list[float] = []
    """One number for `less` and `greater`, two for `between`, in the metric's units; none where `than` is given."""


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
    """Figures quoted beside the table."""
    states: list[str] = []
    """What the report says of one and the same thing in several places; more than one distinct value is a contradiction."""


class Unmeasured(Claim):
    """What cannot be tested here, and why."""

    kind: Literal["not testable"]
    because: str


AnyClaim = Annotated[Number | Order | Shape | Count | Consistency | Unmeasured, Field(discriminator="kind")]


class Study(Table):
    """A report as a file that runs."""

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
    seeds: list[int] = [0, 1, 2]
    """Seeds of every run that does not say otherwise."""
    assumptions: dict[str, str] = {}
    """Each choice that the report leaves open, and what was chosen and why, by name."""
    factors: dict[str, str] = {}
    """Short names for dotted keys, for grids and selections: `{ activation = "model.activation" }`."""
    runs: dict[str, Runs]
    """The systems and experiments, by name."""
    claims: list[AnyClaim]
    """What it claims."""
    omitted: dict[str, str] = {}
    """What the report names and this study does not run or judge, and why."""
