"""`scaling override`: a person decides instead of the laws, for a context and a time."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from agents.limits import limits_of, ruled
from agents.overrides import holds
from cli.authorship import ByOption, who
from cli.laws import wide_console
from cli.output import print_json, say
from cli.setting_parts import CapOption, PinOption, caps_of, pins_of
from cli.settings_of import StateOption, settings_of
from models.allocations import Override, Parts, Pins
from models.contexts import GLOBAL, context_id, context_pairs
from models.errors import SettingsError
from models.settings import Settings
from streams.override_topic import publish_override, read_overrides

app = typer.Typer(help="Decide instead of the laws, for a context and a time; logged.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A name for it: letters, digits, . _ -.")]


@app.command("set")
def put(  # noqa: PLR0917 - the options of the command
    override_id: IdArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept and shown in answers.")],
    pin: PinOption = None,
    cap: CapOption = None,
    context: Annotated[
        str, typer.Option("--context", metavar="CONTEXT", help="For tasks of it, such as project=atlas.")
    ] = GLOBAL,
    begins: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Not before (RFC 3339).")] = None,
    ends: Annotated[str | None, typer.Option("--until", metavar="TIME", help="No longer (RFC 3339).")] = None,
    by: ByOption = None,
    state: StateOption = None,
) -> None:
    """Pin or cap parts of every allocation in a context; all four parts pinned make a fixed policy. In force at once.

    Example: scaling override set freeze --pin agent_count=2 --context project=atlas --reason "incident 42"
    """
    settings = settings_of(state)
    context = _known_context(context, settings)
    pins, caps = pins_of(pin), caps_of(cap)
    if pins == Pins() and caps == Parts():
        raise typer.BadParameter("give at least one --pin or --cap")
    ruled(limits_of(settings, [pins.model_size] if pins.model_size else []), pins, caps)
    begin, end = _moment("--from", begins), _moment("--until", ends)
    if end is not None and datetime.fromisoformat(end) <= datetime.fromisoformat(begin or _now()):
        raise typer.BadParameter(f"--until {ends}: it must be later than its begin, {begin or 'now'}")
    order = Override(
        override_id=override_id,
        by=who(by),
        reason=reason,
        given_at=_now(),
        context=context,
        pins=pins,
        caps=caps,
        begins=begin,
        ends=end,
    )
    try:
        # What the record's own rules refuse, the topic shall not carry.
        msgspec.json.decode(msgspec.json.encode(order), type=Override)
    except msgspec.ValidationError as error:
        raise SettingsError(f"the override {override_id} is not valid: {error}") from None
    asyncio.run(publish_override(settings, order))
    span = f"{f' from {begin}' if begin else ''}{f' until {end}' if end else ''}"
    say(f"{override_id} is in force for {context}{span}. Take it back with scaling override lift {override_id}.")


@app.command("lift")
def lift(override_id: IdArgument, by: ByOption = None, state: StateOption = None) -> None:
    """Take an override back; its record stays.

    Example: scaling override lift freeze
    """
    settings = settings_of(state)
    known = asyncio.run(read_overrides(settings))
    if override_id not in known:
        raise SettingsError(f"there is no override {override_id}: see scaling override list")
    if (lifted := known[override_id].lifted_at) is not None:
        raise SettingsError(f"override {override_id} was lifted at {lifted}, by {known[override_id].lifted_by}")
    order = msgspec.structs.replace(known[override_id], lifted_at=_now(), lifted_by=who(by))
    asyncio.run(publish_override(settings, order))
    say(f"{override_id} is lifted.")


@app.command("list")
def show(
    every: Annotated[bool, typer.Option("--all", help="Also those that were lifted or have ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    state: StateOption = None,
) -> None:
    """Show who decides what, where and why.

    Example: scaling override list
    """
    now = datetime.now(UTC)
    orders = asyncio.run(read_overrides(settings_of(state))).values()
    shown = [order for order in orders if every or (order.lifted_at is None and not _over(order, now))]
    if as_json:
        print_json(msgspec.to_builtins(shown))
        return
    table = Table("override", "context", "decides", "from", "until", "by", "reason", "state")
    for order in shown:
        parts = [f"{name} = {value}" for name, value in order.pins.numbers().items()]
        parts += [f"{name} <= {value}" for name, value in order.caps.numbers().items()]
        parts += [f"model_size = {order.pins.model_size}"] if order.pins.model_size else []
        stands = "in force" if holds(order, now) else f"lifted by {order.lifted_by}" if order.lifted_at else "not now"
        begins, ends = order.begins or order.given_at, order.ends or "lifted"
        table.add_row(order.override_id, order.context, ", ".join(parts), begins, ends, order.by, order.reason, stands)
    wide_console().print(table)


def _known_context(context: str, settings: Settings) -> str:
    """Write a context as tasks have it, and refuse one that no task has."""
    pairs = context_pairs(context)
    if pairs and ([key for key, _ in pairs] not in settings.context_keys or not all(value for _, value in pairs)):
        known = ", ".join("&".join(f"{key}=..." for key in keys) for keys in settings.context_keys)
        raise typer.BadParameter(f"--context {context}: tasks have the contexts {GLOBAL}, {known}")
    return context_id(pairs)


def _over(order: Override, now: datetime) -> bool:
    return order.ends is not None and datetime.fromisoformat(order.ends) <= now


def _moment(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: give a time such as 2026-01-31T08:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
