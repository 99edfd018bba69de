"""ClickHouse over https: whose certificate is trusted, and that nothing is said to a server that is not the one."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import NotReachable, QueryError, SettingsError
from models.settings import load_settings
from streams.clickhouse import query

PASSWORD = "geheim-0123456789"  # noqa: S105 - a test's


class Refusing(http.server.BaseHTTPRequestHandler):
    """Notes who comes, and refuses."""

    seen: list[str]

    def do_POST(self) -> None:
        """Refuse a query as ClickHouse does."""
        self.seen.append(str(self.headers.items()))
        self.send_response(500)
        self.send_header("X-ClickHouse-Exception-Code", "516")
        self.end_headers()
        self.wfile.write(b"Code: 516. DB::Exception: ann: Authentication failed. (AUTHENTICATION_FAILED)")

    do_GET = do_POST  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    """A server for which who breaks off is no error."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(certificates: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the URL of a server with a certificate of its own authority, and what it has seen."""
    seen: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "both.pem")
    handler = type("Handler", (Refusing,), {"seen": seen})
    with Quiet(("127.0.0.1", 0), handler) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://127.0.0.1:{served.server_port}", seen
        served.shutdown()
        thread.join()


def test_the_named_authority_is_trusted(server: tuple[str, list[str]], certificates: Path) -> None:
    """With its authority's file the server is asked; that it refuses the password is told without the password."""
    url, seen = server
    settings = load_settings(
        clickhouse=url,
        clickhouse_user="ann",
        clickhouse_password=PASSWORD,
        clickhouse_ca_file=str(certificates / "certificate.pem"),
    )
    with pytest.raises(QueryError, match="Authentication failed") as refusal:
        query(settings, "SELECT 1")
    assert PASSWORD not in str(refusal.value)
    assert seen


@pytest.mark.parametrize("ca_file", ["", "other.pem"])
def test_another_server_is_told_nothing(server: tuple[str, list[str]], certificates: Path, ca_file: str) -> None:
    """A certificate that the authority has not signed ends the conversation before a password is sent."""
    url, seen = server
    file = str(certificates / ca_file) if ca_file else ""
    with pytest.raises(NotReachable):
        query(load_settings(clickhouse=url, clickhouse_password=PASSWORD, clickhouse_ca_file=file), "SELECT 1")
    assert seen == []


def test_a_file_that_holds_no_certificates_is_refused() -> None:
    """The message names the setting."""
    with pytest.raises(SettingsError, match="setting clickhouse_ca_file"):
        query(load_settings(clickhouse="https://127.0.0.1:1", clickhouse_ca_file=__file__), "SELECT 1")
