"""What the site writes and sends: attempts to sign in, mails with a link to set a password, the keys under which
programs and forms have created something, and the account of nobody."""

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractBaseUser, User
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage, get_connection
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apps.accounts import queries
from apps.accounts.domain import DELETED_ACCOUNT, DELETED_ACCOUNT_NAME
from apps.accounts.models import IdempotencyKey, Profile, SignInAttempt
from apps.mail import SEVEN_BIT

logger = logging.getLogger(__name__)

IDEMPOTENCY_KEYS_KEPT = timedelta(hours=24)

# One thread: who asks for a mail does not wait for the mail server, so the time says nothing about who has an account.
_mailer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mailer")


def note_inbox_seen(*, user: AbstractBaseUser, now: datetime) -> None:
    """Note that a person looks into the inbox: what is there is no longer unread."""
    Profile.objects.update_or_create(user=user, defaults={"inbox_seen_at": now})


def address_of(request: HttpRequest | None) -> str:
    """Return where a request came from, or "". What visitors write into X-Forwarded-For is not believed: only its last
    entry, which the proxy added, and only where there is one. Of IPv6 it is the network, which is one customer's."""
    if request is None:
        return ""
    address = _address_in(request.META.get("REMOTE_ADDR", ""))
    if settings.TRUST_PROXY_HEADERS:
        # An unreadable entry counts as the proxy's own address: without an address there would be no limit.
        address = _address_in(request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2]) or address
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64)
    return str(address or "")


def _address_in(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text, with or without a port: 192.0.2.1:5678, [2001:db8::1]:443."""
    entry = text.strip().strip('"')
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::[0-9]+)?|([^:]+):[0-9]+", entry)
    try:
        return ip_address((bracketed[1] or bracketed[2]) if bracketed else entry)
    except ValueError:
        return None


def begin_attempt(*, kind: str, name: str, address: str, now: datetime) -> SignInAttempt | None:
    """Note an attempt and return it; None where there were too many within the hour.

    It is noted before it is counted, so attempts side by side count each other. What is refused is not kept: who goes
    on trying shuts nobody out for longer.
    """
    SignInAttempt.objects.filter(at__lte=now - queries.WITHIN).delete()
    attempt = SignInAttempt.objects.create(kind=kind, account=queries.account_key(name), address=address, at=now)
    on_account = queries.attempts_on(kind=kind, name=name, now=now).count()
    from_address = queries.attempts_from(kind=kind, address=address, now=now).count()
    if on_account <= queries.ATTEMPTS_PER_ACCOUNT[kind] and from_address <= queries.ATTEMPTS_PER_ADDRESS:
        return attempt
    attempt.delete()
    logger.warning("attempt refused", extra={"kind": str(kind), "address": address})
    return None


def forget_attempts(*, name: str, now: datetime) -> None:
    """Let an account be tried again: its owner has shown who they are."""
    queries.attempts_on(kind=SignInAttempt.Kind.PASSWORD, name=name, now=now).delete()


def lock_owner(owner_id: int) -> None:
    """Lock the row of a user in the caller's transaction, before anything else of theirs: what counts or links several
    rows of one owner is changed by one transaction at a time."""
    User.objects.select_for_update(no_key=True).get(pk=owner_id)


class KeyReused(Exception):
    """Something else was created under this key."""


def claim_key(*, owner: AbstractBaseUser, key: str, content: Any, now: datetime) -> IdempotencyKey:
    """Return the owner's key, in the caller's transaction: a new one, with nothing created under it yet, or that of an
    earlier call, with what it created. Another call under the same key waits here until that transaction is over.

    content: what is to be created, of which a digest is stored. Raises KeyReused where that was something else.
    """
    # With the site's key, since a secret may be in it.
    text = json.dumps(content, sort_keys=True, default=str)
    digest = salted_hmac("idempotency key", text, algorithm="sha256").hexdigest()
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(owner=owner, key=key, digest=digest, at=now)
    except IntegrityError:
        claimed = IdempotencyKey.objects.get(owner=owner, key=key)
    if claimed.digest != digest:
        raise KeyReused
    return claimed


def note_created(*, claimed: IdempotencyKey, created: str) -> None:
    """Remember what was created under a key, in the transaction that creates it."""
    claimed.created = created
    claimed.save(update_fields=["created"])


def prune_idempotency_keys(*, now: datetime, dry_run: bool = False) -> int:
    """Drop the keys that are older than a day, and return how many; with dry_run, how many would go."""
    over = IdempotencyKey.objects.filter(at__lt=now - IDEMPOTENCY_KEYS_KEPT)
    return over.count() if dry_run else over.delete()[0]


def deleted_account() -> User:
    """Return the account to which passes what must stay of deleted ones, which nobody can use; it is made where it is
    not there."""
    nobody = User(pk=DELETED_ACCOUNT, username=DELETED_ACCOUNT_NAME, password=make_password(None), is_active=False)
    User.objects.bulk_create([nobody], ignore_conflicts=True)
    return User.objects.get(pk=DELETED_ACCOUNT)


def send_password_link(*, user: User, is_new: bool) -> None:
    """Mail the user a link to set a password, in a while. The link begins with SITE_URL, whatever a request says."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    page = reverse("password_reset_confirm", args=[uid, default_token_generator.make_token(user)])
    context = {
        "is_new": is_new,
        "name": user.get_username(),
        "site_url": settings.SITE_URL,
        "link": settings.SITE_URL + page,
        "days": settings.PASSWORD_RESET_TIMEOUT // 86_400,
    }
    subject = "Your account at Fake Fintech OSS" if is_new else "A new password for Fake Fintech OSS"
    text = render_to_string("accounts/password_mail.txt", context)
    mail = EmailMessage(subject=subject, body=text, to=[user.email])
    mail.encoding = SEVEN_BIT
    _mailer.submit(_send, mail, user_id=user.pk)


def _send(mail: EmailMessage, *, user_id: Any) -> None:
    try:
        mail.connection = get_connection(timeout=settings.EMAIL_TIMEOUT)
        mail.send()
    except Exception as error:
        # In a thread of its own nobody else would hear of it. Its words may hold the address; its kind does not.
        logger.error("password mail not sent", extra={"user_id": user_id, "reason": type(error).__name__})
    else:
        logger.info("password mail sent", extra={"user_id": user_id})
