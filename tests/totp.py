"""An authenticator app."""

import time

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_at(seconds, secret=TOTP_SECRET):
    """Return what the app shows at a Unix time."""
    return format_hotp_value(hotp_value(secret, int(seconds) // 30))


def code_now(secret=TOTP_SECRET, *, steps_later=0):
    """Return what the app shows, or will show so many steps of 30 s later."""
    return code_at(time.time() + 30 * steps_later, secret)
