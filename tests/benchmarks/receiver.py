"""A receiver of webhooks in a process of its own: /in takes what comes, /hang never answers.

Usage: python -m tests.benchmarks.receiver PORT FILE; a line in FILE is a webhook-id and when it came (since 1970).
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def serve(port: int, path: Path) -> None:
    """Serve until the process is ended."""
    with path.open("a", buffering=1) as file:

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = time.time()
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/hang":
                    time.sleep(60)
                file.write(f"{self.headers['webhook-id']} {at}\n")
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
