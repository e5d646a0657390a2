"""Where a search is kept: an Optuna study in SQLite or PostgreSQL, which `optuna-dashboard` and Optuna itself read too."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import exc

from fittingroom.errors import ExtraMissing, FittingRoomError, UsageError

__all__ = ["close_storage", "local_url", "open_storage", "reason_of", "shown"]

# Somebody else may be writing; a server has this long to answer.
BUSY_SECONDS, CONNECT_SECONDS = 60, 5


def local_url(folder: Path) -> sqlalchemy.URL:
    """Return the URL of the embedded storage in a search's folder, not as a text: there, some names of folders would mean something."""
    return sqlalchemy.URL.create("sqlite", database=str(folder.absolute() / "search.db"))


def open_storage(url: str | sqlalchemy.URL) -> BaseStorage:
    """Open a storage, with its tables made where there are none.

    SQLite is used with a rollback journal (truncated, not deleted: that spares the folder's synchronisation) and full
    synchronisation: what was told survives a crash of the machine, and
    the bug of older versions' write-ahead log, which can corrupt a file, has no place to happen.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``.

    Raises:
        UsageError: the URL cannot be understood.
        ExtraMissing: the driver is not installed.
        FittingRoomError: nobody answers there (within ten seconds), or the tables are of another version of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        parsed = sqlalchemy.engine.make_url(url)
        return get_storage(RDBStorage(_with_driver(parsed), engine_kwargs=_engine(parsed)))
    except (exc.ArgumentError, ValueError):  # a ValueError: a port that is no number
        raise UsageError("the storage is not a URL such as sqlite:///search.db or postgresql://user:password@host:5432/database") from None
    except ImportError as error:
        raise ExtraMissing(f"storage {shown(url)}: {error.name or 'its driver'} is missing", "tune") from None
    except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise FittingRoomError(f"storage {shown(url)} cannot be used: {reason_of(error)}") from None
    except RuntimeError as error:  # Optuna says so of another version's tables
        raise FittingRoomError(f"storage {shown(url)}: {reason_of(error)}") from None


def close_storage(storage: BaseStorage) -> None:
    """Close a storage's connections, which Optuna itself leaves to chance."""
    storage.remove_session()
    backend = getattr(storage, "_backend", storage)  # a cache stands before it
    if isinstance(backend, RDBStorage):
        backend.engine.dispose()


def shown(url: str | sqlalchemy.URL) -> str:
    """Return a URL as it may be printed: without the password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except (exc.ArgumentError, ValueError):
        return re.sub(r":[^:@/]*@", ":***@", str(url))


def _with_driver(url: sqlalchemy.URL) -> str:
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"storage {shown(str(url))}: {url.get_backend_name()} is not supported; take sqlite or postgresql")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError(f"storage {shown(str(url))}: kept in memory, a search would be gone with its process; name a file: sqlite:///search.db")
    chosen = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    return chosen.render_as_string(hide_password=False)


def _engine(url: sqlalchemy.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"creator": lambda: _connect(str(url.database))}
    return {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "pool_pre_ping": True}


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def reason_of(error: BaseException) -> str:
    """Return the heart of what a driver says, in one line."""
    cause = error.__cause__ or error
    original = getattr(cause, "orig", None) or cause
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[0] if lines else type(original).__name__).rstrip(".")
