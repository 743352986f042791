"""Servers on loopback that say what a test wants."""

import socket
import threading
from contextlib import contextmanager


@contextmanager
def talking_servers(read):
    """Give a function that starts a server and returns its port. The server reads each connection by `read`, then gives
    it to `talk`; errors of the connection end it."""
    listeners = []

    def start(talk):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept_for_ever, args=(listener, read, talk), daemon=True).start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def accept_for_ever(listener, read, talk):
    """Give each connection to `read` and then to `talk`, each in a thread, until the listener is closed."""
    try:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_talk_and_close, args=(connection, read, talk), daemon=True).start()
    except OSError:
        return


def _talk_and_close(connection, read, talk):
    with connection:
        try:
            read(connection)
            talk(connection)
        except OSError:
            return
