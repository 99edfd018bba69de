import hashlib
from pathlib import Path

import pytest

from deploy.jars import Jar, class_path, pinned_jars
from models.errors import StackError


def test_kafka_and_what_it_needs_are_pinned() -> None:
    """Each pinned jar has coordinates and a SHA-256; Kafka's own parts are of one version."""
    jars = pinned_jars()
    assert len({str(jar) for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.3.0"}


def test_a_jar_counts_only_if_it_is_what_was_pinned(tmp_path: Path) -> None:
    """A download that broke off, or was changed, is not used."""
    jar = Jar("org.example.deep", "thing", "1.0", hashlib.sha256(b"whole").hexdigest())
    path = jar.path(tmp_path)
    assert path == tmp_path / "org" / "example" / "deep" / "thing" / "1.0" / "thing-1.0.jar"
    assert not jar.verified(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"who")
    assert not jar.verified(tmp_path)
    path.write_bytes(b"whole")
    assert jar.verified(tmp_path)


def test_a_missing_jar_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the jar, the folder and the three ways on."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    told: list[str] = []
    with pytest.raises(
        StackError, match=r"cannot be fetched .*connect to the network.*copy that folder.*SCALING_KAFKA"
    ):
        class_path(told.append, tmp_path)
    assert told[0].startswith("Kafka: fetching jar 1 of")
