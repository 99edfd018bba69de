"""The layers are this project's own packages, and importing them does nothing."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

IMPORT_ALL = """
import importlib, os, pkgutil, sys, threading

ROOT, EVENTS = os.getcwd() + os.sep, ("socket.", "subprocess.", "os.fork", "os.mkdir", "os.remove", "os.rename", "open")

def watch(event, arguments):
    if not event.startswith(EVENTS):
        return
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return  # a library does it while it is imported
        if name.startswith(ROOT) and ".venv" not in name:
            raise SystemExit(f"{name}:{frame.f_lineno} does {event} at import time")
        frame = frame.f_back

sys.addaudithook(watch)
modules = 0
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(found.name)
        modules += 1
assert threading.active_count() == 1, threading.enumerate()
print(modules)
"""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_generic_name_is_ours(name: str) -> None:
    """Other distributions ship packages called agents or models too: ours is the one that is imported."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / name
    assert module.__doc__, "each layer says in one line what it is"


def test_the_layers_are_those_that_the_import_rule_holds() -> None:
    """Every package of the distribution is in the rule, and the rule names no other."""
    rules = PYPROJECT["tool"]["importlinter"]
    assert set(rules["root_packages"]) == set(PACKAGES)
    assert set(rules["contracts"][0]["layers"]) == set(PACKAGES)


def test_the_documents_name_tests_that_exist() -> None:
    """A promise or a formula in docs is pinned by the test it names."""
    words = re.findall(
        r"\btest_(?!id\b)\w+", "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    )
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.stem for path in files}
    for path in files:
        known.update(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    assert words
    assert set(words) <= known


def test_importing_every_module_does_nothing() -> None:
    """No connection, no process, no thread, no file is made before someone asks for it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORT_ALL, *PACKAGES], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 50
