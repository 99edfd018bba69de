"""Number the contexts that a partition has met, with a cap on the distinct values of each key list."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contexts import GLOBAL, OTHER, context_id, context_pairs

NONE = -1
GLOBAL_CODE = 0

Value = str | None | tuple[str | None, ...]
"""What a look-up knows a context by: the value of its key, or the values of its keys where it has several."""


class ContextIndex:
    """Codes of contexts: 0 is global. Past the cap of a key list, new values share its context "other"."""

    def __init__(self, key_lists: Sequence[Sequence[str]], cap: int) -> None:
        self._key_lists = [tuple(keys) for keys in key_lists]
        self._cap = cap
        self.ids: list[str] = [GLOBAL]
        self._code_of_id: dict[str, int] = {GLOBAL: GLOBAL_CODE}
        self._codes: list[dict[Value, int]] = [{} for _ in self._key_lists]
        self._kept = [0] * len(self._key_lists)

    def restore(self, contexts: Iterable[str]) -> None:
        """Take up contexts that stored cells belong to, so that the cap counts them."""
        positions = {keys: position for position, keys in enumerate(self._key_lists)}
        for context in contexts:
            pairs = context_pairs(context)
            position = positions.get(tuple(key for key, _ in pairs))
            if position is not None:
                values = tuple(value for _, value in pairs)
                value: Value = values if len(values) > 1 else values[0]
                if value not in self._codes[position]:
                    self._codes[position][value] = self._code(context)
                    self._kept[position] += values != (OTHER,) * len(values)

    def codes(self, columns: dict[str, Sequence[str | None]], rows: int) -> NDArray[np.int64]:
        """Give the context codes of each row: [N, 1 + key lists], the global one first, -1 where a key is missing."""
        codes = np.zeros((rows, 1 + len(self._key_lists)), dtype=np.int64)
        for position, keys in enumerate(self._key_lists):
            known = self._codes[position]
            values: Sequence[Value] = (
                columns[keys[0]] if len(keys) == 1 else list(zip(*(columns[key] for key in keys), strict=True))
            )
            found = list(map(known.get, values))
            if None in found:
                for value in dict.fromkeys(value for value, code in zip(values, found, strict=True) if code is None):
                    parts = value if isinstance(value, tuple) else (value,)
                    known[value] = self._new(position, tuple(filter(None, parts))) if all(parts) else NONE
                found = list(map(known.__getitem__, values))
                self._forget_overflow(position)
            codes[:, 1 + position] = np.frombuffer(array("q", found), dtype=np.int64)  # type: ignore[type-var]
        return codes

    @property
    def full(self) -> list[str]:
        """Name the caps that are reached, and what happens at them."""
        return [
            f"context_values = {self._cap}: further values of {'+'.join(keys)} share its context {OTHER!r}"
            for keys, kept in zip(self._key_lists, self._kept, strict=True)
            if kept >= self._cap
        ]

    def _new(self, position: int, value: tuple[str, ...]) -> int:
        keys = self._key_lists[position]
        if self._kept[position] >= self._cap:
            value = (OTHER,) * len(keys)
        elif value != (OTHER,) * len(keys):
            self._kept[position] += 1
        return self._code(context_id(list(zip(keys, value, strict=True))))

    def _other(self, position: int) -> int | None:
        keys = self._key_lists[position]
        return self._code_of_id.get(context_id([(key, OTHER) for key in keys]))

    def _forget_overflow(self, position: int) -> None:
        """Keep the look-up itself bounded: overflowing and incomplete values are looked up anew in each batch."""
        if len(self._codes[position]) > 2 * self._cap:
            other = self._other(position)
            self._codes[position] = {
                value: code for value, code in self._codes[position].items() if code not in {NONE, other}
            }

    def _code(self, context: str) -> int:
        code = self._code_of_id.get(context)
        if code is None:
            code = self._code_of_id[context] = len(self.ids)
            self.ids.append(context)
        return code
