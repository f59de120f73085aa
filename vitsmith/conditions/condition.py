"""Which rows of a table fulfil a condition on its columns:  width > 1000 and camera_city == 'Paris'. N rows.

A condition compares columns with texts in quotes, numbers, `true`, `false` and each other, by  == != < <= > >=  and
chains of them, `in [...]`, `is none`, `contains(column, 'text')`, `startswith` and `endswith`, joined by `and`, `or`
and `not`. A row whose value is not known fulfils no comparison, nor its contrary.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsmith.conditions.columns import (
    COMPARISONS,
    TEXT_TESTS,
    ColumnKind,
    Truth,
    ValueColumn,
    WrongKind,
    as_column,
)
from vitsmith.conditions.expression import Expression, too_deep, written_name
from vitsmith.errors import suggestion

_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class ColumnTable:
    """What a condition may ask: columns of N values each."""

    columns: Sequence[str]
    values: Callable[[str], Sequence[Any]]
    """The values of a column (N,), None where unknown; asked only for columns that the condition names."""
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)
    """What columns hold, for those in which every value may be unknown."""
    names: frozenset[str] = frozenset()
    """Columns of names: one that is written as a date is a name."""
    no_others: str = ""
    """Why there are no other columns, for a message on one that is not there."""


def rows_where(expression: Expression, table: ColumnTable) -> Truth:
    """The rows that fulfil a condition, and those that do not: bool (N,) each.

    Of two dates the less exact one says how far they are compared: '2024-05' is the whole month.

    Raises InputError, which shows where, for a column that is not there, for a date that cannot be, and for a
    comparison of a text with a number, or of a date with a text.
    """
    try:
        return _Condition(expression, table).answer()
    except RecursionError:
        raise too_deep(expression.text) from None


class _Condition:
    """A condition on the columns of a table."""

    def __init__(self, expression: Expression, table: ColumnTable) -> None:
        self._expression, self._table = expression, table
        self._columns: dict[str, ValueColumn] = {}

    def answer(self) -> Truth:
        """Whether the condition holds for each row."""
        self._check_names()
        return self._truth(self._expression.tree)

    def _check_names(self) -> None:
        for token in self._expression.tokens.values():
            if token.kind == "column":
                self._check_column(token.value, token.at)
            if token.kind == "function" and token.value not in TEXT_TESTS:
                raise self._expression.mistake(f"the functions are {', '.join(TEXT_TESTS)}", at=token.at)

    def _truth(self, node: ast.expr) -> Truth:
        if isinstance(node, ast.BoolOp):
            first, *others = (self._truth(value) for value in node.values)
            for other in others:
                first = first & other if isinstance(node.op, ast.And) else first | other
            return first
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self._truth(node.operand)
        try:
            if isinstance(node, ast.Compare):
                return self._chain(node)
            if isinstance(node, ast.Tuple):
                raise self._expression.mistaken_comma(node)
            if isinstance(node, ast.Call):
                return self._call(node)
            if self._is_column(node):
                return self._flag(node)
        except WrongKind as wrong:
            raise self._expression.mistake(str(wrong), node) from None
        if self._expression.token(node) is not None:  # a text or number
            raise self._expression.mistake(
                "a value stands alone: write its column again, as  city == 'Rome' or city == 'Paris'", node
            )
        raise self._expression.mistake("a column is compared with something here, as  width > 1000", node)

    def _chain(self, node: ast.Compare) -> Truth:
        """a < b < c is a < b and b < c."""
        operands = [node.left, *node.comparators]
        found = [
            self._compare(left, sign, right)
            for left, sign, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        first, *others = found
        for other in others:
            first = first & other
        return first

    def _compare(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Truth:
        if isinstance(sign, ast.Is | ast.IsNot):
            missing = self._column(left).is_missing()
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise WrongKind("'is' asks whether a value is missing: write  is none  or  is not none, or  ==")
            return missing if isinstance(sign, ast.Is) else ~missing
        if isinstance(sign, ast.In | ast.NotIn):
            found = self._contained(left, right)
            return found if isinstance(sign, ast.In) else ~found
        name = _SIGNS[type(sign)]
        if self._is_column(left) and self._is_column(right):
            return self._column(left).compare_column(self._column(right), COMPARISONS[name])
        if self._is_column(left):
            return self._compare_value(left, right, name)
        self._value(left)  # which says what is wrong with what is neither a column nor a value
        if self._is_column(right):
            return self._compare_value(right, left, _MIRRORED[name])
        self._value(right)
        raise self._expression.mistake("a column stands on one side, as  width > 1000", left)

    def _compare_value(self, column: ast.expr, value: ast.expr, sign: str) -> Truth:
        compared, other = self._column(column), self._value(value)
        try:
            return compared.compare(other, COMPARISONS[sign])
        except WrongKind as wrong:
            raise self._expression.mistake(str(wrong), value) from None

    def _contained(self, left: ast.expr, right: ast.expr) -> Truth:
        if self._is_column(right):  # 'beach' in id
            return self._column(right).test_text(TEXT_TESTS["contains"], self._text(left))
        if isinstance(right, ast.List | ast.Tuple):
            listed = right.elts
        else:  # ('Paris') is a list, as in SQL
            listed = [right] if self._expression.is_in_brackets(right) else []
        if not listed:
            raise self._expression.mistake(
                "'in' is followed by a list in brackets, as  camera_city in ['Paris', 'Rome']", right
            )
        first, *others = (self._compare_value(left, one, "==") for one in listed)
        for other in others:
            first = first | other
        return first

    def _call(self, node: ast.Call) -> Truth:
        token = self._expression.token(node.func)
        if token is None or token.kind != "function":
            raise WrongKind("a column is compared with something here, as  width > 1000")
        name = token.value
        if len(node.args) != 2:
            raise WrongKind(f"{name} takes a column and a text, as  {name}(id, 'beach')")
        return self._column(node.args[0]).test_text(TEXT_TESTS[name], self._text(node.args[1]))

    def _flag(self, node: ast.expr) -> Truth:
        column = self._column(node)
        if column.kind not in ("flag", "empty"):
            raise WrongKind(f"{column.written} is not true or false by itself: compare it with something")
        return column.truth(column.values.astype(bool))

    def _text(self, node: ast.expr) -> str:
        value = self._value(node)
        if not isinstance(value, str):
            raise self._expression.mistake(f"only a text is searched for: write '{value}' in quotes", node)
        return value

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            if node.value is None:
                raise WrongKind("nothing is equal to none: write  is none  or  is not none")
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            if self._is_column(node.operand):
                raise self._expression.mistake(
                    "nothing is computed here, and a column has no minus: write  latitude < -5  for  -latitude > 5",
                    node,
                )
            value = self._value(node.operand)
            if isinstance(value, str | bool):
                raise self._expression.mistake("only a number has a minus", node)
            return -value
        if isinstance(node, ast.BinOp):
            raise self._expression.mistake("nothing is computed here; a date stands in quotes, as '2024-05-01'", node)
        if isinstance(node, ast.Tuple):
            raise self._expression.mistaken_comma(node)
        token = self._expression.token(node)
        if token is None or token.kind not in ("text", "number"):
            raise self._expression.mistake("a text in quotes or a number stands here", node)
        return token.value

    def _is_column(self, node: ast.expr) -> bool:
        token = self._expression.token(node)
        return token is not None and token.kind == "column"

    def _column(self, node: ast.expr) -> ValueColumn:
        token = self._expression.token(node)
        if token is None or token.kind != "column":
            raise self._expression.mistake("a column stands here, as  width > 1000", node)
        self._check_column(token.value, token.at)
        if token.value not in self._columns:
            try:
                self._columns[token.value] = self._read(token.value)
            except WrongKind as wrong:
                raise self._expression.mistake(str(wrong), node) from None
        return self._columns[token.value]

    def _read(self, name: str) -> ValueColumn:
        """Raises WrongKind for a column of mixed values."""
        usual, may_be_dates = self._table.kinds.get(name, "empty"), name not in self._table.names
        return as_column(name, self._table.values(name), usual=usual, may_be_dates=may_be_dates)

    def _check_column(self, name: str, at: int) -> None:
        there = self._table.columns
        if name in there:
            return
        if self._table.no_others:
            raise self._expression.mistake(f"no column is called {name!r}: {self._table.no_others}", at=at)
        close = suggestion(name, there)
        hint = f"{close} " if close.startswith("did you mean") else "a text stands in quotes; "
        listed = ", ".join(map(written_name, there))
        raise self._expression.mistake(f"no column is called {name!r}: {hint}the columns are {listed}", at=at)
