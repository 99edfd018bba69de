"""A ClickHouse of the embedded kind alone, with the schema and one run in it."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy.machine import LOOPBACK, claim_port
from models.settings import Settings, load_settings
from streams.clickhouse import ClickHouseSink, apply_schema


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a ClickHouse of the module's own that has the schema."""
    port = claim_port("ClickHouse", 0)
    settings = load_settings(clickhouse=f"http://{LOOPBACK}:{port}")
    state: Path = tmp_path_factory.mktemp("archive")
    command = [sys.executable, "-P", "-m", "deploy.clickhouse", "--state", str(state), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            _until_it_answers(port)
            asyncio.run(_prepare(settings))
            yield settings
        finally:
            service.terminate()
            service.wait(30)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of this machine (certificate.pem), its key, and another authority's (other.pem)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH: certificates cannot be made")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("certificate", "other"):
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={LOOPBACK}"),
                *("-addext", f"subjectAltName=IP:{LOOPBACK}"),
                *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    (folder / "both.pem").write_text(
        (folder / "certificate.key").read_text() + (folder / "certificate.pem").read_text()
    )
    return folder


async def _prepare(settings: Settings) -> None:
    await apply_schema(settings)
    sink = ClickHouseSink(settings)
    await sink.insert("scaling_observations", {"agent_run_id": ["run-1"], "project": ["atlas"], "agent_count": [3]})
    await sink.close()


def _until_it_answers(port: int) -> None:
    for _ in range(1200):
        with suppress(OSError), closing(HTTPConnection(LOOPBACK, port, timeout=30)) as connection:
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    pytest.fail("ClickHouse does not answer")
