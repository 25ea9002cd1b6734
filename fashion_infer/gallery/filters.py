"""Filters such as `price<=50 and category in (Dress, Skirt)`, as text or dict, read into a tree of typed comparisons.

    {"category": "Dress", "price": {"lte": 50}}               both conditions must hold
    {"or": [{"size": ["S", "M"]}, {"price": {"lt": 10}}]}     one of the two must hold

A row without a value in a column satisfies no condition on it except `column=null`; a row with a value satisfies
`column!=null`. A list (attributes, colors) equals a text if the text is one of its items.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fashion_infer.errors import UsageError
from fashion_infer.gallery.values import OWN, Value, clean, from_text, joined_kind, kind_of

OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "in": "in"}
MAX_DEPTH = 50
ORDERED = ("<", "<=", ">", ">=")
NUMBERS = ("int", "float")


@dataclass(frozen=True)
class Compare:
    """One comparison; `value` is a tuple for `in`, and None tests whether the row has no value."""

    column: str
    operator: str
    value: Any


@dataclass(frozen=True)
class All:
    """A condition that holds if every part holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class AnyOf:
    """A condition that holds if at least one part holds."""

    parts: tuple["Filter", ...]


Filter = Compare | All | AnyOf


class Word(str):
    """A value that was written without quotes in a filter's text; the column's kind decides how it is read."""


class Operator(str):
    """A sign in a filter's text, such as <= or a bracket."""


def typed_filter(where: "str | Mapping[str, Any] | None", kinds: Mapping[str, str]) -> Filter | None:
    """Read a filter and convert its values to the kinds of their columns.

    Args:
        where: filter as text or as a dict (see above); None for no filter.
        kinds: kind of each of the user's columns; those of the gallery's own columns are added.

    Raises:
        UsageError: the filter cannot be read, names an unknown column (the message lists the columns), or compares a
            column with a value of another kind.
    """
    if where is None:
        return None
    parsed = _Parser(where).parse() if isinstance(where, str) else _from_dict(where)
    return _typed(parsed, {**kinds, **OWN})


def _typed(node: Filter, kinds: Mapping[str, str]) -> Filter:
    if not isinstance(node, Compare):
        return type(node)(tuple(_typed(part, kinds) for part in node.parts))
    kind = kinds.get(node.column)
    if kind is None:
        raise UsageError(f"the gallery has no column {node.column!r}; it has {', '.join(sorted(kinds))}")
    if node.operator in ORDERED and kind in ("bool", "list"):
        raise UsageError(f"the column {node.column!r} is of kind {kind}, which has no order: use =, != or in")
    if node.operator == "in":
        return Compare(node.column, "in", tuple(_typed_value(node.column, item, kind) for item in node.value))
    value = _typed_value(node.column, node.value, kind)
    if value is None and node.operator not in ("=", "!="):
        raise UsageError(f"the column {node.column!r} cannot be {node.operator} null: use = or !=")
    return Compare(node.column, node.operator, value)


def _typed_value(column: str, value: Any, kind: str) -> Value:
    if isinstance(value, Word) and value == "null":
        return None
    if isinstance(value, Word) or (isinstance(value, str) and kind.startswith("date")):
        if kind == "int" and not re.fullmatch(r"[+-]?\d+", value):
            kind = "float"  # such as price<=49.5 for a column of whole numbers
        return from_text(column, str(value), kind)
    plain = clean({"value": value}).get("value")
    actual = kind_of(plain)
    numbers = actual in NUMBERS and kind in NUMBERS
    if not (actual in (None, kind) or numbers or (actual, kind) == ("text", "list")):
        joined_kind(column, kind, str(actual))  # raises an error that names both kinds
    return plain


def _from_dict(where: Mapping[str, Any], depth: int = 0) -> Filter:
    if not isinstance(where, Mapping) or depth > MAX_DEPTH:
        raise UsageError(f"a filter must be a text or a dict of columns, at most {MAX_DEPTH} deep, got {where!r:.80}")
    return All(tuple(part for name, value in where.items() for part in _tests(name, value, depth)))


def _tests(name: str, value: Any, depth: int) -> Iterator[Filter]:
    if name in ("and", "or") and isinstance(value, list | tuple):
        parts = tuple(_from_dict(part, depth + 1) for part in value)
        yield All(parts) if name == "and" else AnyOf(parts)
    elif isinstance(value, list | tuple):
        yield Compare(name, "in", tuple(value))
    elif isinstance(value, Mapping):
        for operator, operand in value.items():
            if operator not in OPERATORS:
                raise UsageError(f"there is no operator {operator!r} for {name!r}: it is one of {', '.join(OPERATORS)}")
            if operator == "in" and not isinstance(operand, list | tuple):
                raise UsageError(f"in needs a list of values for {name!r}, got {operand!r}")
            yield Compare(name, OPERATORS[operator], tuple(operand) if operator == "in" else operand)
    else:
        yield Compare(name, "=", value)


_TOKEN = re.compile(
    r"""\s*(?: (?P<operator> <= | >= | != | [<>=(),] )
             | '(?P<single>[^']*)' | "(?P<double>[^"]*)"
             | (?P<word> [^\s()<>=!,'"]+ ) )""",
    re.VERBOSE,
)
_TOKEN_TYPES: dict[str, type[str]] = {"operator": Operator, "word": Word, "single": str, "double": str}


class _Parser:
    """A recursive-descent parser for `or`, `and`, brackets and comparisons."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.tokens: list[str] = []
        position = 0
        while text[position:].strip():
            token = _TOKEN.match(text, position)
            if token is None or token.lastgroup is None:
                raise self.error(f"{text[position:].strip()!r} cannot be understood")
            self.tokens.append(_TOKEN_TYPES[token.lastgroup](token[token.lastgroup]))
            position = token.end()

    def error(self, why: str) -> UsageError:
        example = "price<=50 and category=Dress"
        return UsageError(f"the filter {self.text!r} cannot be read: {why}; write it as in {example!r}")

    def parse(self) -> Filter:
        node = self.any_of()
        if self.tokens:
            raise self.error(f"{self.next()} was not expected")
        return node

    def any_of(self) -> Filter:
        parts = [self.all_of()]
        while self.accept(Word("or")):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self) -> Filter:
        parts = [self.one()]
        while self.accept(Word("and")):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def one(self) -> Filter:
        if self.accept(Operator("(")):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.error(f"its brackets are more than {MAX_DEPTH} deep")
            node = self.any_of()
            self.expect(")")
            self.depth -= 1
            return node
        column = str(self.value())
        if self.accept(Word("in")):
            self.expect("(")
            values = [self.value()]
            while self.accept(Operator(",")):
                values.append(self.value())
            self.expect(")")
            return Compare(column, "in", tuple(values))
        for operator in ("=", "!=", *ORDERED):
            if self.accept(Operator(operator)):
                return Compare(column, operator, self.value())
        raise self.error(f"{self.next()} stands where one of = != < <= > >= in was expected")

    def value(self) -> str:
        if not self.tokens or isinstance(self.tokens[0], Operator):
            raise self.error(f"{self.next()} stands where a name or a value was expected")
        return self.tokens.pop(0)

    def accept(self, token: str) -> bool:
        """If the next token is this operator or this bare word (in any case), step over it and return True."""
        matches = bool(self.tokens) and type(self.tokens[0]) is type(token) and self.tokens[0].lower() == token
        if matches:
            self.tokens.pop(0)
        return matches

    def expect(self, operator: str) -> None:
        if not self.accept(Operator(operator)):
            raise self.error(f"{self.next()} stands where {operator!r} was expected")

    def next(self) -> str:
        """Return the next token for an error message."""
        return repr(str(self.tokens[0])) if self.tokens else "the end"
