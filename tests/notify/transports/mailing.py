"""A mail server of the test's own."""

import email
import socket
from email.policy import default

from apps.notify.transports.protocol import (
    RenderedMessage,
)

PAGE = "https://fintech.example/message/1"
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke.\n.\nEnd",
    url=PAGE,
)
TO = {"to": "ada@example.org"}


class Server:
    """Answers RCPT and DATA as it is scripted to, and keeps what it took."""

    def __init__(self):
        self.sender_answer = self.recipient_answer = self.data_answer = "250 OK"
        self.taken = []

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self.sender_answer

    async def handle_RCPT(self, server, session, envelope, address, options):
        envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server, session, envelope):
        self.taken.append((list(envelope.rcpt_tos), email.message_from_bytes(envelope.content, policy=default)))
        return self.data_answer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
