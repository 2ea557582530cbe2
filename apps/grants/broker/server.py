"""The broker's socket. One request a connection, few at a time, each short, authenticated and asked once.

Who connects is what the kernel says (SO_PEERCRED); that they may ask is what the key says. Nothing that a request holds is
logged, nor what is answered.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import stat
import struct
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from django.db import connections

from apps.grants.broker import minting, wire

logger = logging.getLogger(__name__)

ASK_WITHIN = 5.0  # seconds for a whole request
AT_ONCE = 16  # connections; more are turned away
LONGEST_PATH = 100  # bytes; the kernel takes 107
TALKATIVE = ("botocore", "boto3", "urllib3")  # at DEBUG they write down what AWS answers


class CannotListen(Exception):
    """The broker cannot start. The text says what to do."""


class Broker(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at `path` for the user ids in `peers`; nobody else gets an answer."""

    daemon_threads = True
    request_queue_size = AT_ONCE

    def __init__(self, path: Path, *, key: str, peers: Collection[int]) -> None:
        if len(key) < wire.SHORTEST_KEY:
            raise CannotListen(f"BROKER_KEY needs {wire.SHORTEST_KEY} characters or more, the same for web and broker.")
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.key, self.peers, self.path = key, frozenset(peers), path
        self.nonces = wire.Nonces()
        self.nonces_lock = threading.Lock()
        self.places = threading.BoundedSemaphore(AT_ONCE)
        _make_way(path)
        before = os.umask(0o177)  # nobody else may connect between bind and chmod
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(before)
        path.chmod(0o600 if self.peers <= {os.geteuid()} else 0o660)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        del client_address
        uid = peer_of(request)
        if uid not in self.peers:
            logger.error("user id %s tried to reach the broker and may not", uid)
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            logger.warning("more than %s requests at once: one was turned away", AT_ONCE)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()
            connections.close_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Without the traceback, which may quote what was being handled."""
        del request, client_address
        kind = sys.exc_info()[0]
        logger.error("a request failed (%s)", kind.__name__ if kind else "unknown")

    def server_close(self) -> None:
        super().server_close()
        self.path.unlink(missing_ok=True)


class _Handler(socketserver.StreamRequestHandler):
    server: Broker

    def handle(self) -> None:
        try:
            line = _line_of(self.connection)
            if not line:
                return  # a health check, which only wants to know that somebody listens
            body = self._authenticated(line)
        except (wire.Rejected, OSError) as error:
            logger.error("a request to the broker was rejected: %s", error)  # noqa: TRY400
            return
        try:
            session, problem = minting.hand_out(minting.Asked.of(body)), ""
        except minting.NotGiven as error:
            session, problem = {}, str(error)
        answer = {"nonce": body["nonce"], "problem": problem, "session": session}
        self.wfile.write(wire.seal(answer, self.server.key, wire.ANSWER))

    def _authenticated(self, line: bytes) -> dict[str, Any]:
        body = wire.unseal(line, self.server.key, wire.REQUEST)
        with self.server.nonces_lock:
            self.server.nonces.spend(body.get("nonce"), body.get("at"))
        return body


def _line_of(asking: socket.socket) -> bytes:
    """What was asked, up to the end of its line. Raises `Rejected` when it is too long or comes too slowly."""
    deadline, said = time.monotonic() + ASK_WITHIN, b""
    while not said.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise wire.Rejected("It came too slowly.")
        asking.settimeout(left)
        part = asking.recv(4096)
        if not part:
            break
        said += part
        if len(said) > wire.MOST_ASKED:
            raise wire.Rejected("It is too long.")
    asking.settimeout(ASK_WITHIN)
    return said


def peer_of(line: socket.socket) -> int:
    """The user id at the other end, by the kernel's word. Linux only; anywhere else the socket's mode decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return int(uid)


def _make_way(path: Path) -> None:
    """Raise unless a socket can stand at `path`, where no stranger can put another one. One that nobody listens at goes."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise CannotListen(f"The socket's path is longer than {LONGEST_PATH} bytes. Choose a shorter one.")
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise CannotListen(f"{path.parent} cannot be used: {error.strerror}.") from error
    if folder.st_mode & stat.S_IWOTH:
        raise CannotListen(f"Anybody may write into {path.parent}. Choose a directory of the broker's own.")
    if not path.exists():
        return
    if not path.is_socket():
        raise CannotListen(f"{path} is something else than a socket. Remove it, or choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            line.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise CannotListen(f"A broker listens at {path} already.")
