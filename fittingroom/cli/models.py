"""``fittingroom models``: which models there are, and the arguments of one."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from fittingroom.cli.options import Json
from fittingroom.cli.output import print_json, print_line, print_table, written
from fittingroom.errors import UsageError

__all__ = ["models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Describe this one, with its arguments.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the models with parameters, multiply-adds and source (for 28×28 gray images and ten classes)."""
    from fittingroom import models as room

    if name is not None:
        _one(name, as_json)
        return
    described = [room.describe(entry) for entry in room.names()]
    if as_json:
        print_json([_plain(description) for description in described])
        return
    columns = [("name", "left"), ("parameters", "right"), ("multiply-adds", "right"), ("source", "left")]
    rows = [[item.name, _figure(item.parameters), _short(item.multiply_adds), _short_source(item.source)] for item in described]
    print_table(columns, rows)


def _one(name: str, as_json: bool) -> None:
    from fittingroom import models as room
    from fittingroom import recipe

    if name not in room.names() and name in recipe.shipped():
        raise UsageError(f"{name} is a recipe, not a model; fittingroom train {name} --show tells what is in it")
    description = room.describe(name)
    arguments = room.arguments_of(name)
    if as_json:
        listed = {
            key: {"accepts": item.accepts, "default": item.default, "description": item.description} for key, item in arguments.items()
        }
        print_json({**_plain(description), "arguments": listed})
        return
    rows = [["model", description.name], ["", description.summary], ["source", description.source]]
    rows += [["parameters", _figure(description.parameters)], ["multiply-adds", f"{_figure(description.multiply_adds)} an image"]]
    rows += [["assumption", assumption] for assumption in description.assumptions]
    print_table([("", "left"), ("", "left")], rows)
    if arguments:
        print_line("")
    for key, item in arguments.items():
        print_line(f"--set model.{key}={written(item.default)}")
        print_table([("", "left"), ("", "left")], [["   ", item.description.rstrip(".")], ["", item.accepts]])


def _plain(description: object) -> dict[str, object]:
    from dataclasses import asdict

    values = asdict(description)  # type: ignore[call-overload]
    return {**values, "assumptions": list(values["assumptions"])}


def _short_source(source: str) -> str:
    """A report's name, or authors and year of a paper; `fittingroom models NAME` has it in full."""
    if report := re.search(r"report [a-z-]+", source):
        return report.group()
    year = re.search(r"\b(?:19|20)\d\d\b", source)
    first = source.split(",")[0]
    return f"{first}, {year.group()}" if year and not first.startswith("Fitting Room") else first


def _figure(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


def _short(number: int | None) -> str:
    return "—" if number is None else f"{number / 1e6:,.2f} M"
