import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agents.decode import EventDecoder
from models.settings import load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
UP = "scaling up"
START_SECONDS = 120.0


def blocks(language: str) -> list[str]:
    """List the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """List the shell commands, in order; a line that ends with a backslash goes on."""
    return [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def environment() -> dict[str, str]:
    """Give commands the `scaling` of this environment, and no settings of another deployment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCALING_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which README's `scaling up` runs, on free ports."""
    assert UP in commands()
    folder = tmp_path_factory.mktemp("readme")
    command = shlex.split(f"{UP} --workers 1 --kafka-port 0 --clickhouse-port 0")
    with (
        (folder / "up.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            # Publishing needs the stack, importing also its workers: the doctor knows.
            while subprocess.run(["scaling", "doctor"], cwd=folder, env=environment(), check=False).returncode:
                assert process.poll() is None, (folder / "up.log").read_text()
                assert time.monotonic() < deadline, (folder / "up.log").read_text()
                time.sleep(1)
            yield folder
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0, (folder / "up.log").read_text()
            assert "the data are kept in .scaling" in (folder / "up.log").read_text()
        finally:
            process.kill()


@pytest.mark.stack
@pytest.mark.demo
def test_every_command_works_as_written(folder: Path) -> None:
    """The commands run in the order of the page, in one folder, against the stack that `scaling up` started there."""
    ran = 0
    for command in commands():
        if command.startswith(("make ", "export CLICKHOUSE_PASSWORD=", "docker compose")) or command == UP:
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        ran += command.startswith("scaling")
    assert ran >= 12


@pytest.mark.stack
@pytest.mark.demo
def test_publishing_from_python_works_as_written(folder: Path) -> None:
    """The Python example publishes a run that ClickHouse then has."""
    (example,) = blocks("python")
    running = json.loads((folder / ".scaling" / "stack.json").read_text())["settings"]
    kafka = {**environment(), "SCALING_KAFKA": running["kafka"]}
    subprocess.run([sys.executable, "-c", example], cwd=folder, env=kafka, check=True, timeout=60)
    count = "SELECT count() FROM observations WHERE agent_run_id = 'run-2f62'"
    deadline = time.monotonic() + 60
    while True:
        answer = subprocess.check_output(
            ["scaling", "query", count, "--format", "TabSeparated"], cwd=folder, env=environment()
        )
        if int(answer) == 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_the_example_event_is_accepted() -> None:
    """The JSON example is a valid event."""
    (example,) = blocks("json")
    event = EventDecoder(load_settings()).decode(example.encode())
    assert event.agent_run_id == "run-2f61"


def test_there_are_exactly_two_set_up_commands() -> None:
    """The first block is `make demo` and `make test`, and the Makefile has both."""
    assert blocks("sh")[0].split("\n") == ["make demo", "make test", ""]
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


def test_compose_commands_name_what_the_file_has() -> None:
    """The file parses; the services that are named exist; the password variable is the one it asks for."""
    text = (ROOT / "docker-compose.yml").read_text()
    services = yaml.safe_load(text)["services"]
    used = [command for command in commands() if "docker compose" in command]
    assert len(used) == 2
    for command in used:
        words = shlex.split(command)
        if "exec" in words:
            assert words[words.index("-T") + 1] in services
    (export,) = [command for command in commands() if command.startswith("export CLICKHOUSE_PASSWORD=")]
    assert f"${{{shlex.split(export)[1].split('=')[0]}:?" in text


def test_links_lead_somewhere() -> None:
    """Every relative link of the page is a file."""
    assert all((ROOT / target).is_file() for target in re.findall(r"\]\(([^)]+)\)", README))
