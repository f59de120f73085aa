"""Which rows of an index fulfil a condition on its columns:  taken >= '2024-05-01' and camera_city == 'Paris'. N rows.

A condition compares columns with texts in quotes, numbers, `true`, `false` and each other, by  == != < <= > >=  and
chains of them, `in [...]`, `is none`, `contains(column, 'text')`, `startswith` and `endswith`, joined by `and`, `or`
and `not`. A row whose value is not known fulfils no comparison, nor its contrary.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import suggestion
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.columns import COMPARISONS, TEXT_TESTS, Truth, ValueColumn, WrongKind, as_column
from vitsmith.retrieval.queries.expression import Expression, parsed, too_deep, written_name

_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def matching(index: Index, text: str) -> Array:
    """The rows that fulfil the condition `text`: bool (N,).

    Columns are those of the index and `id`, the name of each file: a row with copies fulfils it when one of its files
    does. Of two dates the less exact one says how far they are compared: '2024-05' is the whole month.

    Raises InputError, which shows where, for what cannot be read, for a column that is not there, for a date that
    cannot be, and for a comparison of a text with a number, or of a date with a text.
    """
    try:
        rows = _Condition(parsed(text), index).rows()
    except RecursionError:
        raise too_deep(text) from None
    return rows


class _Condition:
    """A condition on the columns of an index."""

    def __init__(self, expression: Expression, index: Index) -> None:
        self._expression, self._index = expression, index
        self._columns: dict[str, ValueColumn] = {}
        self._ids: list[str] = []  # of all files, where the condition asks for them: of rows, then of copies
        self._copied = np.zeros(0, np.int64)  # the row of each of these copies

    def rows(self) -> Array:
        """Whether the condition holds for each row, or for one of its copies: bool (N,)."""
        self._check_names()
        if any(token.kind == "column" and token.value == "id" for token in self._expression.tokens.values()):
            self._read_ids()
        files = self._truth(self._expression.tree).yes
        rows: Array = files[: len(self._index)].copy()
        rows[self._copied[files[len(self._index) :]]] = True
        return rows

    def _read_ids(self) -> None:
        copies: list[tuple[str, int]] = []
        for at, start in enumerate(self._index.starts[:-1].tolist()):
            part = self._index.part(at)
            self._ids += part.ids()
            if part.copies():
                of_rows = part.copies_of(range(part.facts.rows))
                copies += ((name, start + row) for row, names in enumerate(of_rows) for name in names)
        self._ids += (name for name, _ in copies)
        self._copied = np.array([row for _, row in copies], np.int64)

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
                self._columns[token.value] = as_column(token.value, self._values(token.value))
            except WrongKind as wrong:
                raise self._expression.mistake(str(wrong), node) from None
        return self._columns[token.value]

    def _values(self, name: str) -> list[Any]:
        if name == "id":
            return self._ids
        values = self._index.column(name)
        return values + [values[row] for row in self._copied.tolist()]

    def _check_column(self, name: str, at: int) -> None:
        there = ["id", *(one for one in self._index.column_names if one != "id")]
        if name in there:
            return
        if there == ["id"]:
            told = f"there is only id in {self._index.folder} (an older index, or one of texts): embed again for others"
            raise self._expression.mistake(f"no column is called {name!r}: {told}", at=at)
        close = suggestion(name, there)
        hint = f"{close} " if close.startswith("did you mean") else "a text stands in quotes; "
        listed = ", ".join(map(written_name, there))
        raise self._expression.mistake(f"no column is called {name!r}: {hint}the columns are {listed}", at=at)
