"""Kafka's class path: the pinned jars of kafka-jars.txt, fetched once from Maven Central and kept in a local cache."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from models.errors import StackError

LOCK_FILE = Path(__file__).with_name("kafka-jars.txt")
LOG_BINDING = "log4j-slf4j-impl"
"""Kafka's own dependencies bring no log binding: without this jar it runs, but silently."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A pinned jar: Maven coordinates and SHA-256."""

    group: str
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.name}:{self.version}"

    def path(self, repository: Path) -> Path:
        """Say where a Maven repository keeps it."""
        return repository.joinpath(*self.group.split("."), self.name, self.version, f"{self.name}-{self.version}.jar")

    def verified(self, repository: Path) -> bool:
        """Whether the repository has it, complete and unchanged."""
        path = self.path(repository)
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def pinned_jars() -> list[Jar]:
    """Read the pinned jars."""
    jars = []
    for line in LOCK_FILE.read_text().splitlines():
        coordinates, digest = line.split()
        group, name, version = coordinates.split(":")
        jars.append(Jar(group, name, version, digest.removeprefix("sha256:")))
    return jars


def class_path(on_progress: Callable[[str], None], repository: Path | None = None) -> str:
    """Join the paths of the pinned jars; fetch those that the local Maven cache does not have.

    No network is used where the cache is complete.

    Args:
        on_progress: Told about every jar that is fetched.
        repository: A local Maven repository; by default the user's.

    Raises:
        StackError: A jar is missing and cannot be fetched, or is not what was pinned.
    """
    cache = repository or Path(GlobalSettings.load().repo_cache)
    jars = pinned_jars()
    missing = [jar for jar in jars if not jar.verified(cache)]
    if missing:
        with _alone(cache):
            for number, jar in enumerate(missing, start=1):
                on_progress(f"Kafka: fetching jar {number} of {len(missing)} ({jar.name}), once")
                _fetch(jar, cache)
    return ":".join(str(jar.path(cache)) for jar in jars if jar.path(cache).is_file())


def _fetch(jar: Jar, cache: Path) -> None:
    if jar.verified(cache):
        return  # another process has fetched it meanwhile
    jar.path(cache).unlink(missing_ok=True)
    try:
        MavenContext(repo_cache=cache).project(jar.group, jar.name).at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:
        jar.path(cache).unlink(missing_ok=True)
        if jar.name == LOG_BINDING:
            return
        message = (
            f"the Kafka jar {jar} is not in {cache} and cannot be fetched ({type(error).__name__}): connect to the "
            "network once and start again, or copy that folder from a machine that has it, or point SCALING_KAFKA "
            "to a broker of your own"
        )
        raise StackError(message) from error
    if not jar.verified(cache):
        jar.path(cache).unlink(missing_ok=True)
        raise StackError(f"the fetched Kafka jar {jar} differs from its pinned SHA-256 and was removed: start again")


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Let one process at a time write to the cache; the downloader writes in place."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".scaling-kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
