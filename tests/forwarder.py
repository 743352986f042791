"""A door to a server on the loopback, for what happens while it is shut, and while the way through it is bad."""

import random
import socket
import struct
import threading
import time
from contextlib import suppress

from tests.rig import free_port


class Forwarder:
    """A door to a server on the loopback that is shut until `open` is called.

    delay_seconds: how long each piece takes, each way; reset_share: of the pieces, so many end their connection by a
    reset; rng: draws which.
    """

    def __init__(self, target_port, *, rng=None):
        self.port = free_port()
        self.delay_seconds = 0.0
        self.reset_share = 0.0
        self.resets = 0
        self._target_port = target_port
        self._rng = rng or random.Random(0)
        self._listener = None
        self._connections = []
        self._pairs = []
        self._deaf = set()
        self._flows = threading.Event()
        self._flows.set()

    def open(self):
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._flows.set()
        if self._listener is not None:
            self._listener.close()

    def cut(self):
        """End the connections that go through the door, which stays open; return how many there have been so far."""
        for one in self._connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(self._connections)

    def hold(self):
        """Let nothing through, either way, until `release`: then what was held arrives, as after lost packets that are
        sent again."""
        self._flows.clear()

    def release(self):
        self._flows.set()

    def swallow(self, *, to_server):
        """Of each connection that is there now, lose whatever goes one way from now on; return how many those are."""
        alive = [pair for pair in self._pairs if all(one.fileno() >= 0 for one in pair)]
        self._deaf |= {pair[to_server] for pair in alive}
        return len(alive)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(near)
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                continue
            self._pairs.append((near, far))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source, target):
        try:
            while data := source.recv(65_536):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                self._flows.wait()
                if target in self._deaf:
                    continue
                if self.reset_share and self._rng.random() < self.reset_share:
                    self.resets += 1
                    for one in (source, target):
                        # Linger of 0: closing resets the connection.
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, target):
                # Also wakes the thread of the other way, which waits for more.
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
