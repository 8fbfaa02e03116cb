"""A port in front of a server: open, closed as when the server is gone, or silent as when it hangs."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Door:
    """Closed at first. What it does changes at once, for connections that are there too."""

    def __init__(self, server: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._server = server
        self._listening: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def open(self, server: int) -> None:
        """Hands everything on to this port of this machine."""
        self.close()
        self._server = server
        self._listen(self._hand_on)

    def silence(self) -> None:
        """Takes connections, and never answers."""
        self.close()
        self._listen(self._connections.append)

    def close(self) -> None:
        """Refuses connections, and ends those that are there."""
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def _listen(self, take) -> None:  # type: ignore[no-untyped-def]
        listening = self._listening = socket.create_server(("127.0.0.1", self.port))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    take(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()

    def _hand_on(self, client: socket.socket) -> None:
        assert self._server is not None
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        self._connections += [client, server]
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
