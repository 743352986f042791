"""A door to a server on the loopback, for what happens while it is shut."""

import socket
import threading
from contextlib import suppress

from tests.rig import free_port


class Forwarder:
    """A door to a server on the loopback that is shut until `open` is called."""

    def __init__(self, target_port):
        self.port = free_port()
        self._target_port = target_port
        self._listener = None
        self._connections = []

    def open(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        if self._listener is not None:
            self._listener.close()

    def cut(self):
        """End the connections that go through the door, which stays open; return how many there have been so far."""
        for one in self._connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(self._connections)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(near)
            far = socket.create_connection(("127.0.0.1", self._target_port))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(source, target):
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()
