"""Task filters: what each operator takes, what a missing field means, and that no filter and no task can break them."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analytics.task_filter import check_filter, complexity_of, decided, field_of, matches, mismatch, normal_filter
from models.contexts import complexity_band
from models.errors import InvalidExperiment

SCALE = {"trivial": 0.1, "low": 0.35, "medium": 0.65, "high": 0.9}
TASK: dict[str, Any] = {
    "task_id": "t-1",
    "project": "atlas",
    "task_complexity": 0.65,
    "lines": 1200,
    "share": 0.5,
    "urgent": True,
    "project_characteristics": {"language": "python", "files": 12, "tested": False, "project": "hidden"},
}

# --- what matches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),
        ({"project": "atlas"}, True),
        ({"project": "Atlas"}, False),
        ({"project": ["delta", "atlas"]}, True),
        ({"project": ["delta"]}, False),
        ({"lines": 1200}, True),
        ({"lines": 1200.0}, True),
        ({"lines": "1200"}, False),
        ({"lines": {"min": 1200}}, True),
        ({"lines": {"min": 1200.5}}, False),
        ({"lines": {"max": 1200}}, True),
        ({"lines": {"max": 1199}}, False),
        ({"lines": {"min": 1000, "max": 2000}}, True),
        ({"lines": {"min": 2000, "max": 1000}}, False),
        ({"lines": {"min": 1000, "not": 1200}}, False),
        ({"lines": {"min": 1000, "not": [1, 1300]}}, True),
        ({"project": {"not": "delta"}}, True),
        ({"project": {"not": "atlas"}}, False),
        ({"project": {"not": ["delta", "atlas"]}}, False),
        ({"project": {"min": 0}}, False),
        ({"urgent": {"min": 0, "max": 1}}, False),
        ({"project": "atlas", "lines": 1}, False),
        ({"project": "atlas", "lines": {"max": 5000}, "urgent": True}, True),
    ],
)
def test_each_operator(conditions: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a table
    """A scalar is equal, a list holds one of, bounds include their ends and take numbers, `not` refuses; all hold."""
    check_filter(conditions)
    assert matches(conditions, TASK, SCALE) is expected
    assert (mismatch(conditions, TASK, SCALE) is None) is expected


@pytest.mark.parametrize("condition", [{"project": "atlas"}, {"project": ["atlas"]}, {"project": {"not": "delta"}}])
def test_a_field_of_the_task_comes_before_a_characteristic(condition: dict[str, Any]) -> None:
    """A characteristic of the same name does not hide the task's own field, and stands in where there is none."""
    assert matches(condition, TASK, SCALE)
    without = {name: value for name, value in TASK.items() if name != "project"}
    assert field_of(without, "project", SCALE) == "hidden"
    assert matches({"project": "hidden", "language": "python", "files": {"min": 12}}, without, SCALE)


@pytest.mark.parametrize(
    ("condition", "found", "expected"),
    [(True, True, True), (True, 1, False), (1, True, False), (0, False, False), ([0, False], False, True)],
)
def test_a_boolean_is_no_number(condition: Any, found: Any, expected: bool) -> None:  # noqa: ANN401, FBT001 - a table
    """True is not 1: each matches its own kind only, alone and in lists."""
    assert matches({"flag": condition}, {"flag": found}, SCALE) is expected


@pytest.mark.parametrize(
    "condition", ["x", 1, True, ["x"], {"min": 0}, {"max": 9}, {"not": "x"}, {"not": ["x"]}, {"min": 0, "not": 3}]
)
@pytest.mark.parametrize("task", [{}, {"absent": None}, {"absent": ["x"]}, {"absent": {"x": 1}}, {"absent": "x" * 257}])
def test_what_is_not_known_never_matches(condition: Any, task: dict[str, Any]) -> None:  # noqa: ANN401 - any condition
    """A field that is missing, null, an object, a list, or too long a text matches nothing, not even `not`."""
    assert mismatch({"absent": condition}, task, SCALE) == "the task has no absent"
    assert mismatch({"absent": condition}, {"project_characteristics": task}, SCALE) == "the task has no absent"
    assert mismatch({"absent": condition}, {"project_characteristics": ["absent"]}, SCALE) == "the task has no absent"


BANDS = ("trivial", "low", "medium", "high")
GRID = [0.0, 0.1, 0.2, 0.35, 0.49, 0.5, 0.65, 0.79, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("label", BANDS)
def test_a_label_stands_for_its_band(label: str) -> None:
    """At least medium takes medium and high, at most medium takes trivial, low and medium, as the bands' own order."""
    place = BANDS.index(label)
    for complexity in GRID:
        band, task = BANDS.index(complexity_band(complexity)), {"task_complexity": complexity}
        assert matches({"min_complexity": label}, task, SCALE) is (band >= place)
        assert matches({"max_complexity": label}, task, SCALE) is (band <= place)
        assert matches({"complexity_band": label}, task, SCALE) is (band == place)
    taken = [each for each in BANDS if matches({"min_complexity": label}, {"task_complexity": each}, SCALE)]
    assert taken == list(BANDS[place:])


@pytest.mark.parametrize("bound", [0, 0.2, 0.65, 1])
def test_a_number_bounds_the_complexity_itself(bound: float) -> None:
    """Numbers take their end in; a task's label counts as the number that stands for it."""
    numbers: list[tuple[float | str, float]] = [*((number, number) for number in GRID), *SCALE.items()]
    for complexity, number in numbers:
        task = {"task_complexity": complexity}
        assert matches({"min_complexity": bound}, task, SCALE) is (number >= bound)
        assert matches({"max_complexity": bound}, task, SCALE) is (number <= bound)


@pytest.mark.parametrize("complexity", [None, "extreme", -0.1, 1.1, True, math.nan, [0.5], {"label": "high"}])
def test_an_unknown_complexity_is_not_known(complexity: Any) -> None:  # noqa: ANN401 - whatever a task may hold
    """What is neither a number in [0, 1] nor a label of the scale is no complexity, and no band follows from it."""
    task = {"task_complexity": complexity}
    assert complexity_of(task, SCALE) is None
    for conditions in ({"min_complexity": 0}, {"max_complexity": "high"}):
        assert mismatch(conditions, task, SCALE) == "the task has no task_complexity"
    assert mismatch({"complexity_band": "high"}, task, SCALE) == "the task has no complexity_band"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"min_complexity": "high"}, "task_complexity 0.65 is below min_complexity high"),
        ({"max_complexity": 0.5}, "task_complexity 0.65 is above max_complexity 0.5"),
        ({"project": ["delta"]}, r"project = 'atlas' does not match ['delta']"),
        ({"colour": "red"}, "the task has no colour"),
    ],
)
def test_a_mismatch_says_why(conditions: dict[str, Any], reason: str) -> None:
    """The reason names the field, what the task has, and what was asked."""
    assert mismatch(conditions, TASK, SCALE) == reason


# --- what a context decides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "known", "expected"),
    [
        ({}, {}, True),
        ({}, {"project": "a"}, True),
        ({"project": "a"}, {}, False),
        ({"project": "a"}, {"project": "a", "model": "m"}, True),
        ({"project": ["a", "b"]}, {"project": "b"}, True),
        ({"project": {"not": "a"}}, {"project": "b"}, True),
        ({"project": {"not": "a"}}, {"project": "a"}, False),
        ({"project": {"not": "a"}}, {"model": "m"}, False),
        ({"project": "a", "model": "m"}, {"project": "a"}, False),
        ({"lines": {"not": 5}}, {"lines": "5"}, False),
        ({"lines": "5"}, {"lines": "5"}, False),
        ({"lines": ["5", 5]}, {"lines": "5"}, True),
        ({"flag": {"not": True}}, {"flag": "True"}, False),
        ({"flag": {"not": True}}, {"flag": "False"}, True),
        ({"lines": {"min": 1}}, {"lines": "5"}, False),
        ({"min_complexity": "medium"}, {"complexity_band": "medium"}, True),
        ({"min_complexity": "medium"}, {"complexity_band": "low"}, False),
        ({"max_complexity": "medium"}, {"complexity_band": "low"}, True),
        ({"max_complexity": "low"}, {"complexity_band": "medium"}, False),
        ({"min_complexity": 0.5}, {"complexity_band": "medium"}, True),
        ({"min_complexity": 0.51}, {"complexity_band": "medium"}, False),
        ({"max_complexity": 0.8}, {"complexity_band": "medium"}, True),
        ({"max_complexity": 0.79}, {"complexity_band": "medium"}, False),
        ({"max_complexity": 1}, {"complexity_band": "high"}, True),
        ({"min_complexity": "low"}, {"project": "a"}, False),
        ({"min_complexity": "low"}, {"complexity_band": "other"}, False),
        ({"complexity_band": ["medium", "high"]}, {"complexity_band": "high"}, True),
    ],
)
def test_a_context_decides_a_filter_when_all_its_tasks_match(
    conditions: dict[str, Any],
    known: dict[str, str],
    expected: bool,  # noqa: FBT001 - a table
) -> None:
    """What the context does not know, or knows only as a text, decides nothing that hangs on it."""
    check_filter(conditions)
    assert decided(conditions, known) is expected


VALUES = st.sampled_from(["a", "b", "5", "True", 5, 5.0, True, False, 0.5])
CONDITIONS = (
    VALUES
    | st.lists(VALUES, min_size=1, max_size=3)
    | st.builds(lambda value: {"not": value}, VALUES | st.lists(VALUES, min_size=1, max_size=2))
    | st.builds(lambda low: {"min": low}, st.sampled_from([0, 5, 6]))
)


@settings(max_examples=300)
@given(
    conditions=st.fixed_dictionaries(
        {},
        optional={
            "project": CONDITIONS,
            "lines": CONDITIONS,
            "min_complexity": st.sampled_from([*BANDS, 0.2, 0.5, 0.6]),
            "max_complexity": st.sampled_from([*BANDS, 0.2, 0.5, 0.6, 1]),
        },
    ),
    task=st.fixed_dictionaries(
        {}, optional={"project": VALUES, "lines": VALUES, "task_complexity": st.sampled_from([*GRID, *BANDS])}
    ),
    keys=st.sets(st.sampled_from(["project", "lines", "complexity_band"])),
)
def test_no_task_of_a_context_that_decides_a_filter_is_left_out(
    conditions: dict[str, Any], task: dict[str, Any], keys: set[str]
) -> None:
    """Take any task and any of its contexts: if the context decides, the task itself matches."""
    known = {key: str(value) for key in keys if (value := field_of(task, key, SCALE)) is not None}
    assert not decided(conditions, known) or matches(conditions, task, SCALE)


# --- what is refused --------------------------------------------------------------------------------------------------

NUMBER_OR_LABEL = "give a number in [0, 1] or one of trivial, low, medium, high"
KINDS = "give a scalar, a list of scalars, or an object of min, max and not"
CHOICES = "choices are texts of up to 256 characters, numbers of up to 2^53, or booleans"
OPERATORS = "an object has at least one of min, max and not, and nothing else"


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({f"field{n}": 1 for n in range(17)}, "f has 17 entries: at most 16 are allowed"),
        ({"": 1}, "f names a field of 0 characters: use 1 to 256"),
        ({"x" * 257: 1}, "f names a field of 257 characters: use 1 to 256"),
        ({"min_complexity": "extreme"}, f"f.min_complexity = 'extreme': {NUMBER_OR_LABEL}"),
        ({"max_complexity": 1.5}, f"f.max_complexity = 1.5: {NUMBER_OR_LABEL}"),
        ({"min_complexity": -0.1}, f"f.min_complexity = -0.1: {NUMBER_OR_LABEL}"),
        ({"min_complexity": True}, f"f.min_complexity = True: {NUMBER_OR_LABEL}"),
        ({"min_complexity": ["low"]}, f"f.min_complexity = ['low']: {NUMBER_OR_LABEL}"),
        ({"min_complexity": None}, f"f.min_complexity = None: {NUMBER_OR_LABEL}"),
        ({"project": None}, f"f.project = None: {KINDS}"),
        ({"project": math.nan}, f"f.project = nan: {KINDS}"),
        ({"project": math.inf}, f"f.project = inf: {KINDS}"),
        ({"project": "x" * 257}, f": {KINDS}"),
        ({"lines": 2**53 + 1}, f"f.lines = {2**53 + 1}: {KINDS}"),
        ({"project": {}}, f"f.project = {{}}: {OPERATORS}"),
        ({"project": {"minimum": 1}}, f"f.project = {{'minimum': 1}}: {OPERATORS}"),
        ({"project": {"min": 1, "in": [1]}}, f": {OPERATORS}"),
        ({"lines": {"min": "1"}}, "f.lines = {'min': '1'}: min must be a number"),
        ({"lines": {"max": True}}, "f.lines = {'max': True}: max must be a number"),
        ({"lines": {"max": math.inf}}, "f.lines = {'max': inf}: max must be a number"),
        ({"lines": {"max": 10**400}}, ": max must be a number"),
        ({"project": []}, "f.project = []: a list has 1 to 64 choices"),
        ({"project": ["x"] * 65}, ": a list has 1 to 64 choices"),
        ({"project": [["x"]]}, f"f.project = [['x']]: {CHOICES}"),
        ({"project": [None]}, f"f.project = [None]: {CHOICES}"),
        ({"project": ["x" * 257]}, f": {CHOICES}"),
        ({"project": {"not": []}}, "f.project = {'not': []}: a list has 1 to 64 choices"),
        ({"project": {"not": {"min": 1}}}, f"f.project = {{'not': {{'min': 1}}}}: {CHOICES}"),
        ({"project": {"not": None}}, f"f.project = {{'not': None}}: {CHOICES}"),
    ],
)
def test_a_filter_outside_the_form_is_refused(conditions: dict[str, Any], message: str) -> None:
    """The message names the filter, the entry, its value and the rule, and stays short."""
    with pytest.raises(InvalidExperiment) as refused:
        check_filter(conditions, "f")
    assert str(refused.value).endswith(message)
    assert len(str(refused.value)) < 600


def test_the_largest_filters_are_allowed() -> None:
    """Sixteen entries, 64 choices and 256 characters are within the form."""
    check_filter({f"field{n}": ["x" * 256] * 64 for n in range(16)})
    check_filter({"x" * 256: 2**53, "lines": {"min": -(2**53), "max": 1e300, "not": [0.5, True, "docs"]}})


# --- for any JSON -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["min_complexity", "max_complexity", "task_complexity", "complexity_band", "project_characteristics", "min", "not"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**53 + 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(BANDS)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES | st.text(max_size=4), JSON, max_size=5)


@settings(max_examples=200)
@given(conditions=OBJECTS, tasks=st.lists(OBJECTS, min_size=1, max_size=4))
@example(conditions={"lines": {"min": 0}}, tasks=[{"lines": 10**400}])
@example(conditions={"max_complexity": 10**400}, tasks=[{"task_complexity": 10**400}])
def test_any_json_object_is_refused_or_can_be_evaluated(
    conditions: dict[str, Any], tasks: list[dict[str, Any]]
) -> None:
    """No filter and no task breaks the evaluation; and numbers as floats ask for the same tasks as they were given."""
    try:
        check_filter(conditions)
    except InvalidExperiment:
        return
    normal = normal_filter(conditions)
    assert normal == conditions
    check_filter(normal)
    for task in tasks:
        reason = mismatch(conditions, task, SCALE)
        assert matches(conditions, task, SCALE) is (reason is None)
        assert matches(normal, task, SCALE) is (reason is None)


@settings(max_examples=200)
@given(
    task=st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, 2.0, "x", "y", True, False]), max_size=3),
    choices=st.lists(st.sampled_from([1, 2.0, "x", "y", True, False]), min_size=1, max_size=4),
)
def test_a_list_and_its_not_part_the_tasks_that_have_the_field(task: dict[str, Any], choices: list[Any]) -> None:
    """Whoever has the field matches exactly one of the two; equality is that of JSON texts, but for 2 and 2.0."""
    there, among = "a" in task, {json.dumps(float(c) if type(c) is int else c) for c in choices}
    value = task.get("a")
    expected = there and json.dumps(float(value) if type(value) is int else value) in among
    assert matches({"a": choices}, task, SCALE) is expected
    assert matches({"a": {"not": choices}}, task, SCALE) is (there and not expected)
