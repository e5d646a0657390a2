"""Audit: published tables against themselves and against data sets; data sets against themselves."""

from __future__ import annotations

from fittingroom.audit.content import audit_data
from fittingroom.audit.finding import Audit, Finding, Verdict
from fittingroom.audit.published import audit_table
from fittingroom.audit.table import MatrixTable, ReportTable, Table, read_tables, read_tables_from

__all__ = [
    "Audit",
    "Finding",
    "MatrixTable",
    "ReportTable",
    "Table",
    "Verdict",
    "audit_data",
    "audit_table",
    "read_tables",
    "read_tables_from",
]
