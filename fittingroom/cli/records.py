"""Where commands find the records of a study."""

from __future__ import annotations

from pathlib import Path

from fittingroom.errors import UsageError

__all__ = ["records_of"]


def records_of(study: str, runs_dir: Path, records: Path | None) -> Path:
    """Return the folder that is named, else that of what was run here, else what a checkout of the program brings along.

    Args:
        study: name of the study.
        runs_dir: folder of all runs.
        records: the folder named on the command line; None where there is none.

    Raises:
        UsageError: the named folder does not exist.
    """
    if records is not None:
        if not records.is_dir():
            raise UsageError(f"no folder {records}; --records names the folder of a study's records")
        return records
    here, brought = runs_dir / "studies" / study / "records", Path("records") / "studies" / study
    return here if here.is_dir() or not brought.is_dir() else brought
