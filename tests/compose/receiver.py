"""A receiver of webhooks in a container: it appends id and body of each request to /tmp/received, as a line of JSON."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

lock = Lock()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        line = json.dumps({"id": self.headers["webhook-id"], "body": json.loads(body)})
        with lock, open("/tmp/received", "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    open("/tmp/received", "a", encoding="utf-8").close()
    ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
