"""Frozen records, filled from whatever goes by the names of their fields."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar


RecordT = TypeVar("RecordT")


def take(record_class: type[RecordT], values: Mapping[str, Any]) -> RecordT:
    """Build a dataclass from values by the names of its fields; fields that are dataclasses are built likewise.

    Args:
        record_class: the dataclass.
        values: those of all fields, of nested ones too, and any others: the `vars` of what argparse has read, or at the
            beginning of a function its `locals()`.

    Raises:
        KeyError: a field has no value.
    """
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(record_class):  # ty: ignore[invalid-argument-type]  all are dataclasses
        kind: Any = field.type
        taken[field.name] = take(kind, values) if dataclasses.is_dataclass(kind) else values[field.name]
    return record_class(**taken)
