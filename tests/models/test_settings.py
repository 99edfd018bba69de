"""The settings: where they come from, and what is said about a wrong one."""

from pathlib import Path

import pytest

from models.errors import SettingsError
from models.settings import Settings, load_settings


def test_arguments_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One frozen object from three places."""
    (tmp_path / "scaling.toml").write_text('partitions = 2\nkafka = "file:1"\ncontext_values = 7\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_KAFKA", "environment:1")
    monkeypatch.setenv("SCALING_COMPLEXITY_SCALE__LOW", "0.3")
    settings = load_settings(partitions=3)
    assert (settings.partitions, settings.kafka, settings.context_values) == (3, "environment:1", 7)
    assert settings.complexity_scale.low == 0.3
    assert settings.complexity_scale.high == 0.9


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("partitions", 0, "greater than or equal to 1"),
        ("unknown_fields", "drop", "pattern"),
        ("session_seconds", 1, "greater than or equal to 6"),
        ("no_such_setting", 1, "not permitted"),
        ("clickhouse_database", "a;b", "pattern"),
    ],
)
def test_a_wrong_value_is_told_with_name_value_and_rule(name: str, value: object, rule: str) -> None:
    """One sentence, no traceback of a library."""
    with pytest.raises(SettingsError, match=f"setting {name} = {value!r}: .*{rule}"):
        load_settings(**{name: value})


def test_only_what_decides_how_events_are_read_is_in_the_hash() -> None:
    """Workers may differ in addresses and intervals, not in partitions, scales, contexts or buckets."""
    base = load_settings().validation_hash
    assert load_settings(kafka="elsewhere:1", flush_seconds=5, dedupe_runs=10).validation_hash == base
    for other in (
        {"partitions": 8},
        {"unknown_fields": "refuse"},
        {"max_event_bytes": 2048},
        {"complexity_scale": {"low": 0.3}},
        {"context_keys": [["project"]]},
        {"context_values": 5},
        {"bucket_seconds": 60},
    ):
        assert load_settings(**other).validation_hash != base, other


def test_every_setting_says_what_it_is() -> None:
    """The table of settings is made from these descriptions."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_the_password_is_not_shown() -> None:
    """Settings may be logged."""
    assert "hunter2" not in repr(load_settings(clickhouse_password="hunter2"))  # noqa: S106 - not a real one
