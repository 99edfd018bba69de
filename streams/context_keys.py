"""Contexts in SQL: the text of a context key as ClickHouse's columns give it, equal to what the stats worker sees."""

from models.contexts import context_pairs

COLUMNS = frozenset({"project", "task_type", "task_id", "model", "model_size_category", "complexity_band"})
SIZE = "model_params_b"

CHARACTERISTIC = (
    "substringUTF8(multiIf("
    "JSONType(project_characteristics, {name:String}) = 'Bool',"
    " if(JSONExtractBool(project_characteristics, {name:String}), 'True', 'False'),"
    " JSONType(project_characteristics, {name:String}) = 'Double'"
    " AND position(JSONExtractString(project_characteristics, {name:String}), '.') = 0,"
    " JSONExtractString(project_characteristics, {name:String}) || '.0',"
    " JSONExtractString(project_characteristics, {name:String})), 1, 256)"
)
"""A free characteristic as Python writes it: True and not true, 8.0 and not 8."""

SIZE_TEXT = (
    "if(JSONHas(project_characteristics, {name:String}), "
    + CHARACTERISTIC
    + ", ifNull(toString(model_params_b) || if(model_params_b = floor(model_params_b), '.0', ''), ''))"
)


def key_sql(key: str, parameter: str) -> tuple[str, dict[str, str]]:
    """Write the expression for a context key's text, which is empty where a run has none.

    Numbers under project_characteristics below 1e-4 or from 1e16 on are written out here and in exponents by the stats
    worker; no other text differs.

    Args:
        key: A key of the setting context_keys.
        parameter: A name for the parameter that carries the key, if one is needed.

    Returns:
        The expression and its parameters.
    """
    if key in COLUMNS:
        return f"ifNull(toString({key}), '')", {}
    text = SIZE_TEXT if key == SIZE else CHARACTERISTIC
    return text.replace("{name:String}", f"{{{parameter}:String}}"), {parameter: key}


def context_condition(context: str) -> tuple[str, dict[str, str]]:
    """Write the condition that a run is in a context, with its parameters; the global context has every run."""
    parts = ["1"]
    parameters: dict[str, str] = {}
    for number, (key, value) in enumerate(context_pairs(context)):
        text, more = key_sql(key, f"key_{number}")
        parts.append(f"{text} = {{value_{number}:String}}")
        parameters |= more | {f"value_{number}": value}
    return " AND ".join(parts), parameters
