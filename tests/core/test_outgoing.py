"""Where webhooks may lead: what is refused when an endpoint is made, and at each sending; nothing else is called."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import outgoing
from core.outgoing import ForbiddenUrl, check_url, is_public, post
from tests.core.receivers import receiving

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",  # noqa: S104
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2001:0:1::",
]  # fmt: skip
OUTSIDE = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.fixture
def inside_allowed(settings: Any) -> None:
    settings.WEBHOOKS_PRIVATE_HOSTS = True


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_is_not_of_the_open_internet_is_refused(address: str) -> None:
    assert not is_public(address)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ForbiddenUrl, match="not an address of the open internet"):
        check_url(f"https://{host}/hook")


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_open_internet_is_allowed(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "shop", "//shop.example/hook", "http://shop.example/hook", "ftp://shop.example", "file:///etc/passwd",
        "https://", "https:///hook", "https://me:secret@shop.example/", "https://shop.example/#part",
        "https://shop.example:99999/", "https://shop.example:x/", "https://[::1/", "gopher://127.0.0.1:6379/_",
    ],
)  # fmt: skip
def test_what_is_no_https_url_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        check_url(url)


def _refuse(url: str, match: str = "not an address of the open internet") -> None:
    with pytest.raises(ForbiddenUrl, match=match):
        post(url, body=b"{}", headers={})


# Forms that only the resolver understands; a real look-up decides.
@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_name_that_resolves_to_loopback_is_refused(host: str) -> None:
    check_url(f"https://{host}/")
    _refuse(f"https://{host}/")


def _resolver(*addresses: str) -> Callable[..., list[Any]]:
    """A look-up to which every name is these addresses; an address is itself."""

    def getaddrinfo(host: str, port: int, *_told: Any, **_named: Any) -> list[Any]:
        found = [host] if host[0].isdecimal() else addresses
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    return getaddrinfo


def test_a_name_of_which_one_address_is_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolver("8.8.8.8", "10.0.0.1"))
    _refuse("https://shop.example/")


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers something else the second time is not asked a second time."""
    looked_up = []

    def rebinding(host: str, port: int, **told: Any) -> list[Any]:
        looked_up.append(host)
        return _resolver("8.8.8.8" if len(looked_up) == 1 else "127.0.0.1")(host, port, **told)

    asked: list[Any] = []

    class Connection:
        def __init__(self, address: str, port: int, **_told: Any) -> None:
            asked.append((address, port))

        def connect(self) -> None:
            raise ConnectionRefusedError

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(outgoing, "HTTPSConnection", Connection)
    with pytest.raises(ConnectionRefusedError):
        post("https://shop.example/hook", body=b"{}", headers={})
    assert (looked_up, asked) == (["shop.example"], [("8.8.8.8", 443)])


def test_another_address_is_tried_if_one_does_not_answer(inside_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", _resolver("127.0.0.99", "127.0.0.1"))
        monkeypatch.setattr(outgoing, "CONNECT_SECONDS", 1.0)
        assert post(f"http://shop.example:{port}/hook?a=b", body=b"{}", headers={"x-one": "1"}).status == 204
    message = receiver.came[0]
    assert (message.path, message.headers["host"]) == ("/hook?a=b", f"shop.example:{port}")
    assert (message.headers["x-one"], message.headers["content-type"]) == ("1", "application/json")


def test_many_addresses_take_no_longer_than_the_whole(inside_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them accepts the connection and says nothing more."""
    monkeypatch.setattr(outgoing, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.5)
    with socket.create_server(("0.0.0.0", 0), backlog=100) as server:  # noqa: S104
        monkeypatch.setattr(socket, "getaddrinfo", _resolver(*(f"127.0.0.{n}" for n in range(1, 21))))
        begun = time.monotonic()
        with pytest.raises(outgoing.NO_ANSWER):
            post(f"https://shop.example:{server.getsockname()[1]}/hook", body=b"{}", headers={})
    assert time.monotonic() - begun < 1.5


def test_a_redirect_is_an_answer(inside_allowed: None) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _path: 302
        receiver.headers = {"Location": receiver.url + "/inner"}
        assert post(receiver.url + "/outer", body=b"{}", headers={}).status == 302
    assert [message.path for message in receiver.came] == ["/outer"]


def test_of_a_long_answer_only_the_beginning_is_read(inside_allowed: None) -> None:
    with receiving() as receiver:
        receiver.answer, receiver.text = (lambda _path: 500), b"a\0" + b"\xff" * 5_000_000
        answer = post(receiver.url, body=b"{}", headers={})
    assert (answer.status, len(answer.text), answer.text[:2]) == (500, outgoing.ANSWER_BYTES - 1, "a\ufffd")


def test_an_answer_in_drops_is_cut_off(inside_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the answer never does."""
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.5)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.05):
                    try:
                        client.sendall(b"X")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(outgoing.NO_ANSWER):
                post(f"http://127.0.0.1:{server.getsockname()[1]}", body=b"{}", headers={})
        finally:
            stop.set()
            thread.join()


def test_an_answer_that_stops_after_its_first_line_is_none(
    inside_allowed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, it looks like one without headers and body: a success."""
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients: list[socket.socket] = []

        def begin() -> None:
            clients.append(server.accept()[0])
            clients[0].sendall(b"HTTP/1.1 200 OK\r\n")

        thread = threading.Thread(target=begin)
        thread.start()
        with pytest.raises(outgoing.NO_ANSWER):
            post(f"http://127.0.0.1:{server.getsockname()[1]}", body=b"{}", headers={})
        thread.join()
        clients[0].close()


def test_a_certificate_that_nobody_vouches_for_is_refused(
    inside_allowed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the control: once its authority is trusted, it opens the name that it was made for, and no other."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop -keyout {key} -out {certificate}"
    names = ["-addext", "subjectAltName=DNS:shop.example"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setattr(socket, "getaddrinfo", _resolver("127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]

        def answer() -> None:
            for _ in range(3):
                client, _ = server.accept()
                client.settimeout(5)
                try:
                    with context.wrap_socket(client, server_side=True) as secured:
                        received = b""
                        while not received.endswith(b"{}"):  # unread bytes at the end would reset the connection
                            received += secured.recv(10_000) or b"{}"
                        secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                except OSError:
                    continue

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(outgoing.NO_ANSWER, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://shop.example:{port}/", body=b"{}", headers={})
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(outgoing.NO_ANSWER, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://other.example:{port}/", body=b"{}", headers={})
        assert post(f"https://shop.example:{port}/", body=b"{}", headers={}).status == 204
        thread.join()
