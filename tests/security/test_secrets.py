"""No secret in what the system says: settings, errors, logs, tracebacks, and the words of a refusing server."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from models.errors import SettingsError
from models.settings import HIDDEN, Settings, load_settings
from streams.kafka_security import connection

SECRET = "geheim-0123456789-abcdef"  # noqa: S105 - the word must not come back
ROOT = Path(__file__).parents[2]


@pytest.fixture
def nowhere() -> int:
    """Give a port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def hostile(tmp_path: Path, nowhere: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set every secret, at the most talkative log level, where neither Kafka nor ClickHouse answers."""
    variables = {
        "SCALING_KAFKA": f"127.0.0.1:{nowhere}",
        "SCALING_CLICKHOUSE": f"http://127.0.0.1:{nowhere}",
        "SCALING_LOG_LEVEL": "DEBUG",
        "SCALING_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SCALING_KAFKA_USERNAME": "ann",
        **{f"SCALING_{name.upper()}": SECRET for name in HIDDEN},
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def scaling(*arguments: str) -> tuple[int, str]:
    """Run a command; give its exit status and all that it said."""
    done = CliRunner().invoke(app, arguments)
    errors = f"{done.exception!r}" if done.exception else ""
    return done.exit_code, done.output + errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("settings",),
        ("settings", "--json"),
        ("doctor",),
        ("laws",),
        ("query", "SELECT 1"),
        ("laws", "verify", "global|agent_count|success|live"),
        ("import", "nothing.jsonl"),
        ("experiment", "list"),
        ("rejected", "list"),
    ],
)
@pytest.mark.usefixtures("hostile")
def test_commands_keep_secrets(arguments: tuple[str, ...]) -> None:
    """Whatever fails, none of the secrets is in what a command says."""
    _, said = scaling(*arguments)
    assert said
    assert SECRET not in said


@pytest.mark.usefixtures("hostile")
def test_a_worker_that_fails_keeps_secrets() -> None:
    """Logs at their most talkative, and the last words of a process."""
    command = [sys.executable, "-m", "cli.main", "worker", "allocator"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_wrong_secret_is_refused_without_its_value(hostile: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret that breaks its rule, and one under a misspelt name, are told by their names."""
    for name in ("kafka_password", "experiment_secret"):
        with hostile.context() as changed:
            changed.setenv(f"SCALING_{name.upper()}", SECRET * 20)
            status, said = scaling("laws")
        assert status == 1
        assert f"setting {name} = (hidden)" in said
        assert SECRET not in said
    (tmp_path / "scaling.toml").write_text(f'clickhouse_pasword = "{SECRET}"\n')
    status, said = scaling("laws")
    assert "setting clickhouse_pasword = (hidden)" in said
    assert SECRET not in said


def test_settings_do_not_show_secrets() -> None:
    """Neither their text nor their representation has a secret, and every field that sounds like one is hidden."""
    settings = load_settings(**dict.fromkeys(HIDDEN, SECRET))
    assert SECRET not in f"{settings!r} {settings}"
    assert {name for name in Settings.model_fields if "password" in name or "secret" in name} == HIDDEN


def test_a_user_in_an_address_is_refused_and_not_repeated() -> None:
    """Addresses are shown: what is secret does not belong there."""
    with pytest.raises(SettingsError, match="kafka_password") as refusal:
        connection(load_settings(kafka=f"ann:{SECRET}@127.0.0.1:9092"))
    assert SECRET not in str(refusal.value)


def test_a_password_that_would_not_be_used_is_refused() -> None:
    """Somebody who sets a password believes the connection protected."""
    with pytest.raises(SettingsError, match="kafka_security_protocol is PLAINTEXT"):
        connection(load_settings(kafka_password=SECRET))
