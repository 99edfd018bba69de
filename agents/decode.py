"""Decode and validate run events: total functions, so that one bad record never takes its neighbours with it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from models.errors import InvalidEvent
from models.events import CHARACTERISTIC_FALLBACKS, RunEvent
from models.settings import Settings

KNOWN_FIELDS = frozenset(RunEvent.__struct_fields__)
MAX_PARAMS_B = 1_000_000


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that is not a valid event: its place in the batch and the reason."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The valid events of a batch with their places in it, and the rejections."""

    events: list[RunEvent]
    indices: list[int]
    rejections: list[Rejection]


class EventDecoder:
    """Decodes run events by the rules of one deployment's settings."""

    def __init__(self, settings: Settings) -> None:
        self._strict = msgspec.json.Decoder(RunEvent).decode
        self._keep_unknown = settings.unknown_fields == "keep"
        self._max_bytes = settings.max_event_bytes

    def decode_batch(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every record; a bad one becomes a rejection with its reason."""
        events: list[RunEvent] = []
        indices = list(range(len(values)))
        rejections: list[Rejection] = []
        records = iter(values)
        decode: Callable[[Any], RunEvent] = self._strict if self._all_small(values) else self.decode
        while True:
            try:
                # `extend` keeps what it has decoded when a record raises, and the iterator stands behind that record.
                events.extend(map(decode, records))
            except (InvalidEvent, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                index = len(events) + len(rejections)
                try:
                    events.append(self.decode(values[index]))
                except InvalidEvent as error:
                    rejections.append(Rejection(index, str(error)))
            else:
                break
        if rejections:
            rejected = {rejection.index for rejection in rejections}
            indices = [index for index in indices if index not in rejected]
        return Decoded(events, indices, rejections)

    def _all_small(self, values: Sequence[bytes | None]) -> bool:
        return None not in values and max(map(len, values), default=0) <= self._max_bytes  # type: ignore[arg-type]

    def decode(self, value: bytes | None) -> RunEvent:
        """Decode one record.

        Raises:
            InvalidEvent: The record breaks a rule; the message names the field and the rule.
        """
        if value is None:
            raise InvalidEvent("the record has no value; publish a JSON object")
        if len(value) > self._max_bytes:
            raise InvalidEvent(f"the record has {len(value)} bytes; the limit max_event_bytes is {self._max_bytes}")
        try:
            return self._strict(value)
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"the record is not UTF-8: {error.reason} at byte {error.start}") from None
        except msgspec.ValidationError as error:
            if self._keep_unknown and "unknown field" in str(error):
                return self._decode_keeping_unknown(value)
            raise InvalidEvent(str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidEvent(f"the record is not JSON: {error}") from None

    def _decode_keeping_unknown(self, value: bytes) -> RunEvent:
        """Move unknown top-level fields under project_characteristics, where the event's own entries win."""
        try:
            fields = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidEvent(f"the record is not JSON: {error}") from None
        known = {name: content for name, content in fields.items() if name in KNOWN_FIELDS}
        unknown = {name: content for name, content in fields.items() if name not in KNOWN_FIELDS}
        own = known.get("project_characteristics") or {}
        if isinstance(own, dict):
            known["project_characteristics"] = unknown | own
        try:
            return msgspec.convert(known, RunEvent)
        except msgspec.ValidationError as error:
            raise InvalidEvent(str(error)) from None


def field(event: RunEvent, name: str) -> str | float | None:
    """Read a field that may stand at the top level or under project_characteristics."""
    value = getattr(event, name)
    if value is None and event.project_characteristics and name in CHARACTERISTIC_FALLBACKS:
        value = event.project_characteristics.get(name)
    return value  # type: ignore[no-any-return]


def text_field(event: RunEvent, name: str) -> str | None:
    """Read a text field, from the top level or else from project_characteristics; a number becomes its text."""
    value = field(event, name)
    return None if value is None or value == "" else str(value)[:256]


def params_field(event: RunEvent) -> float | None:
    """Read model_params_b in billions; a value under project_characteristics that is not a number > 0 is ignored."""
    value = field(event, "model_params_b")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= MAX_PARAMS_B and math.isfinite(value) else None


def complexity(event: RunEvent, scale: Mapping[str, float]) -> float | None:
    """Read the task complexity in [0, 1], with labels mapped by the settings' scale."""
    value = event.task_complexity
    return scale[value] if isinstance(value, str) else value
