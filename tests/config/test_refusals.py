"""What keeps Perennial from starting is told in one sentence, with code 1 and without a traceback."""

import re
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.config.installation import Installation, refusal


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "data")


def test_busy_port(installation: Installation) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", installation.port))
        listener.listen()
        sentence = refusal(installation.manage("run"))
    assert sentence.startswith(
        f"perennial: Port {installation.port} on 127.0.0.1 cannot be used (Address already in use)"
    )
    assert not (installation.data / "logs").exists()


def test_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    installation = Installation(tmp_path / "file" / "data")
    sentence = refusal(installation.manage("migrate", PERENNIAL_SECRET_KEY="given"))
    assert f"The data directory {installation.data} cannot be written (Not a directory)" in sentence


@pytest.mark.parametrize("command", ["migrate", "run"])
def test_database_that_does_not_answer(installation: Installation, command: str) -> None:
    url = f"postgresql://someone:hidden-word@127.0.0.1:{Installation(installation.data).port}/shop"
    sentence = refusal(installation.manage(command, DATABASE_URL=url))
    assert "The PostgreSQL server of DATABASE_URL cannot be used: " in sentence
    assert "Connection refused" in sentence
    assert "hidden-word" not in sentence


@pytest.mark.parametrize("url", ["mysql://localhost/shop", "postgresql://localhost", "postgresql://host:port/shop"])
def test_database_url_that_is_none(installation: Installation, url: str) -> None:
    assert "DATABASE_URL" in refusal(installation.manage("migrate", DATABASE_URL=url))


def test_postgres_that_is_too_old(installation: Installation) -> None:
    with _server(_AnswerAsPostgres14) as port:
        sentence = refusal(installation.manage("migrate", DATABASE_URL=f"postgresql://u@127.0.0.1:{port}/shop"))
    assert sentence == "perennial: DATABASE_URL names PostgreSQL 14, but Perennial needs 15 or newer."


def test_redis_that_is_too_old(installation: Installation) -> None:
    with _server(_AnswerAsRedis5) as port:
        sentence = refusal(installation.manage("migrate", REDIS_URL=f"redis://127.0.0.1:{port}/0"))
    assert sentence == "perennial: REDIS_URL names Redis 5.0.14, but Perennial needs 6.2 or newer."


@contextmanager
def _server(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    """Answer as a server of a version that no package here has; what is tested is only that its number is read."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class _AnswerAsPostgres14(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while True:
            length, code = struct.unpack("!II", self.request.recv(8, socket.MSG_WAITALL))
            self.request.recv(length - 8, socket.MSG_WAITALL)
            if code == 3 << 16:  # protocol 3.0; before it, requests for encryption
                break
            self.request.sendall(b"N")
        parameters = {"server_version": "14.9", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        answer = b"R" + struct.pack("!II", 8, 0)
        for name, value in (parameters | {"DateStyle": "ISO, MDY", "integer_datetimes": "on"}).items():
            body = f"{name}\0{value}\0".encode()
            answer += b"S" + struct.pack("!I", len(body) + 4) + body
        self.request.sendall(answer + b"Z" + struct.pack("!I", 5) + b"I")
        self.request.recv(1024)


class _AnswerAsRedis5(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while received := self.request.recv(4096):
            for command in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", received):
                body = b"# Server\r\nredis_version:5.0.14\r\n"
                known = b"$%d\r\n%s\r\n" % (len(body), body)
                self.request.sendall(known if command == b"INFO" else b"-ERR unknown command\r\n")
