"""An OpenID Connect provider on the loopback interface, which a test can have say anything."""

import base64
import hashlib
import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "fintech", "the secret of the client"
KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65_537, key_size=2048) for _ in range(2))


class Provider:
    """It gives a code to whoever comes, and for that code an ID token of `person` with `claims` over it.

    answers: path -> (status, headers, body) in place of its own; calls: the paths that were asked for.
    """

    def __init__(self, url):
        self.issuer = url
        self.begin_anew()

    def begin_anew(self):
        """Be as in the beginning."""
        self.person = {"sub": "ada-at-provider", "email": "ada@example.org", "email_verified": True}
        self.claims, self.answers, self.calls, self.userinfo, self.config = {}, {}, [], {}, {}
        self.key, self.header, self.algorithm = KEY, {"kid": "first"}, "RS256"
        self.published = [("first", KEY), ("second", OTHER_KEY)]
        self._asked = {}

    def authorize(self, address):
        """Return the query with which the provider sends a browser back that came to it by this address."""
        asked = dict(parse_qsl(urlsplit(address).query))
        self._asked["a code"] = asked
        return {"code": "a code", "state": asked["state"]}

    def discovery(self):
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        } | self.config

    def keys(self):
        found = []
        for key_id, key in self.published:
            public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            found.append(public | {"kid": key_id, "use": "sig", "alg": "RS256"})
        return {"keys": found}

    def tokens(self, body, authorization):
        """Return (status, answer) to the form that asks for tokens."""
        form = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self._asked.pop(form.get("code"), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if (
            asked is None
            or authorization != f"Basic {known}"
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["code_challenge"] != base64.urlsafe_b64encode(digest).decode().rstrip("=")
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {name: value for name, value in (claims | self.person | self.claims).items() if value is not None}
        token = jwt.encode(claims, self.key, algorithm=self.algorithm, headers=self.header)
        return 200, {"access_token": "an access token", "token_type": "Bearer", "id_token": token}


@contextmanager
def provider_running():
    """Run a provider on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer("")

        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def answer(self, body):
            path = urlsplit(self.path).path
            provider.calls.append(path)
            status, headers, text = provider.answers.get(path, (None, {}, ""))
            if status is None:
                status, answer = {
                    "/.well-known/openid-configuration": lambda: (200, provider.discovery()),
                    "/keys": lambda: (200, provider.keys()),
                    "/userinfo": lambda: (200, provider.userinfo),
                    "/token": lambda: provider.tokens(body, self.headers.get("Authorization")),
                    "/authorize": lambda: (200, {}),
                }[path]()
                text = json.dumps(answer)
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
