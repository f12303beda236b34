"""Sums of credits that are exact on every database."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Sum
from django.db.models.sql.compiler import SQLCompiler


class CreditSum(Sum):
    """`Sum` of an amount of credits. SQLite adds decimals as floats: three thousand times 0.1 make 300.000000000056,
    and the difference would be booked. Amounts have three places, so the sum does too."""

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, Any]:
        sql, params = super().as_sql(compiler, connection, **extra)
        return f"ROUND({sql}, 3)", params
