"""ClickHouse's HTTP interface over the embedded engine: `python -m deploy.clickhouse --state DIR --port N`.

clickhouse-connect, curl and other HTTP clients cannot tell it from a server, with these limits: everyone on this
machine is the default user, sessions (`session_id`) and external tables are not kept, a result is made whole before
it is sent, and answers are not compressed, since they never leave the machine.
"""

import argparse
import asyncio
import json
import os
import zlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.encodings import FRAMES, Decoder
from deploy.engine import Engine, EngineError, Result, Statement
from deploy.machine import LOOPBACK
from deploy.statements import file_access
from models.errors import StackError

LARGEST_BODY = 256 * 1024**2
LONGEST_HEAD = 1024**2
LOCAL_HOSTS = [LOOPBACK, "localhost"]

# Parameters of the HTTP interface itself; every other one is a setting of the statement.
NOT_SETTINGS = {
    "query",
    "database",
    "default_format",
    "user",
    "password",
    "quota_key",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "role",
    "stacktrace",
    "compress",
    "decompress",
    "buffer_size",
    "wait_end_of_query",
    "client_protocol_version",
}
PARAMETER = "param_"

QUERY_IS_TOO_LARGE = 214
NOT_IMPLEMENTED = 48
BAD_REQUEST_CODES = {6, 8, 15, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 321, 427}
NOT_FOUND_CODES = {46, 47, 50, 56, 60, 63, 73, 81, 115, 336, 511}
OTHER_CODES = {QUERY_IS_TOO_LARGE: 413, NOT_IMPLEMENTED: 501, 159: 408}


def http_status(code: int) -> int:
    """Choose the HTTP status for a ClickHouse error number, as ClickHouse's server does."""
    if code in BAD_REQUEST_CODES:
        return 400
    return 404 if code in NOT_FOUND_CODES else OTHER_CODES.get(code, 500)


async def read_body(request: Request, limit: int = LARGEST_BODY) -> bytes:
    """Read and decode a request's body.

    Raises:
        EngineError: The encoding is unknown, the data are broken, or the body exceeds the limit when decoded.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", *FRAMES}:
        known = ", ".join(FRAMES)
        raise EngineError(f"Code: {NOT_IMPLEMENTED}. DB::Exception: Content-Encoding {encoding}: send one of {known}")
    decoder = Decoder(FRAMES[encoding]) if encoding in FRAMES else None
    body = bytearray()
    async for chunk in request.stream():
        try:
            body += decoder.push(chunk) if decoder else chunk
        except (zlib.error, RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"Code: 271. DB::Exception: the body is no valid {encoding}: {error}") from None
        if len(body) > limit:
            message = (
                f"Code: {QUERY_IS_TOO_LARGE}. DB::Exception: the body exceeds {limit} bytes: insert in smaller parts"
            )
            raise EngineError(message)
    return bytes(body)


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """Read the fields of a multipart form, in which clients send long parameters.

    Raises:
        EngineError: The form holds a file, which would be an external table.
    """
    form = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    fields = {}
    for part in form.walk():
        if part.is_multipart():
            continue
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None or not isinstance(name, str):
            raise EngineError(f"Code: {NOT_IMPLEMENTED}. DB::Exception: external tables: insert into a table instead")
        payload = part.get_payload(decode=True)
        fields[name] = payload.decode() if isinstance(payload, bytes) else ""
    return fields


def statement_of(parameters: Mapping[str, str], body: bytes, method: str, header_format: str | None) -> Statement:
    """Read a statement from a request: the URL's query, a line break and the body, as ClickHouse joins them."""
    query = parameters.get("query", "").encode()
    settings = {
        name: value for name, value in parameters.items() if name not in NOT_SETTINGS and not name.startswith(PARAMETER)
    }
    if method == "GET":
        # Level 1 and not 2, which would let a link in a web page write files by INSERT INTO FUNCTION.
        settings["readonly"] = "1"
    return Statement(
        text=query + b"\n" + body if query and body else query or body,
        database=parameters.get("database", ""),
        default_format=parameters.get("default_format") or header_format or "TabSeparated",
        settings=settings,
        parameters={
            name.removeprefix(PARAMETER): value for name, value in parameters.items() if name.startswith(PARAMETER)
        },
    )


class Service:
    """The HTTP service. The engine is used by one thread, in the order of the requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clickhouse")

    def app(self) -> Starlette:
        """Make the ASGI application. Names of other hosts are refused: a web page must not reach it by a DNS trick."""
        return Starlette(
            routes=[
                Route("/", self.statement, methods=["GET", "POST"]),
                Route("/ping", self.ping, methods=["GET"]),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_HOSTS)],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Give the folder back at the end, if the running statement ends in time; a killed one leaves no half part."""
        yield
        closing = asyncio.wrap_future(self._thread.submit(self._engine.close))
        await asyncio.wait([closing], timeout=0.5)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ping(self, _request: Request) -> Response:
        """Answer that the service runs, without waiting for the engine."""
        return PlainTextResponse("Ok.\n")

    async def statement(self, request: Request) -> Response:
        """Run the statement of a request."""
        query_id = request.query_params.get("query_id") or str(uuid4())
        try:
            result = await self._run(request)
        except EngineError as error:
            return self._refusal(error, query_id)
        if result is None:
            return PlainTextResponse("Ok.\n")
        summary = {name: str(value) for name, value in result.summary.items()}
        headers = self._headers(query_id) | {"X-ClickHouse-Summary": json.dumps(summary)}
        if result.format is not None:
            headers["X-ClickHouse-Format"] = result.format
        return Response(result.body, headers=headers, media_type="text/plain; charset=UTF-8")

    async def _run(self, request: Request) -> Result | None:
        site = request.headers.get("sec-fetch-site", "none")
        if not local_origin(request.headers.get("origin")) or site not in {"none", "same-origin"}:
            raise EngineError("Code: 497. DB::Exception: web pages of other hosts may not query. (ACCESS_DENIED)")
        parameters = dict(request.query_params)
        body = await read_body(request)
        content_type = request.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            parameters |= form_fields(body, content_type)
            body = b""
        statement = statement_of(parameters, body, request.method, request.headers.get("x-clickhouse-format"))
        if not statement.text.strip():
            return None
        word = file_access(statement.text, readonly=statement.settings.get("readonly", "0").strip("0") != "")
        if word is not None:
            raise EngineError(f"Code: 497. DB::Exception: {word} reaches files of this machine. (ACCESS_DENIED)")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._engine.run, statement)

    def _refusal(self, error: EngineError, query_id: str) -> Response:
        text = str(error)
        if "(version " not in text:
            text = f"{text} (version {self._engine.version})"
        headers = self._headers(query_id) | {"X-ClickHouse-Exception-Code": str(error.code)}
        status = 403 if error.code == 497 else http_status(error.code)  # noqa: PLR2004 - ACCESS_DENIED
        return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)

    def _headers(self, query_id: str) -> dict[str, str]:
        return {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "embedded",
            "X-ClickHouse-Timezone": "UTC",
        }


def local_origin(origin: str | None) -> bool:
    """Whether a request comes from a program or a page of this machine, and not from a web page elsewhere."""
    return origin is None or urlsplit(origin).hostname in LOCAL_HOSTS


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Serve ClickHouse's HTTP interface from an embedded engine.")
    parser.add_argument("--state", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--port", type=int, required=True, help="loopback port")
    options = parser.parse_args()
    # The engine takes the server's time zone from the environment; ours is UTC everywhere.
    os.environ["TZ"] = "UTC"
    try:
        engine = Engine(options.state)
    except StackError as error:
        parser.exit(1, f"{error}\n")
    uvicorn.run(
        Service(engine).app(),
        host=LOOPBACK,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=600,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )


if __name__ == "__main__":
    main()
