"""Who tried to sign in lately: what limits guessing, in every web process alike."""

from django.db import models


class SignInAttempt(models.Model):
    """One try with a password that has not succeeded, or one request for a mail; kept for an hour.

    account: a digest of the name or address that was typed, since people type passwords into that field, too;
    address: where it came from, or "" where that cannot be known.
    """

    class Kind(models.TextChoices):
        PASSWORD = "password", "password"
        MAIL = "mail", "mail"

    kind = models.CharField(max_length=8, choices=Kind)
    account = models.CharField(max_length=64)
    address = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()

    class Meta:
        # They serve the two counts, and the end of the hour.
        indexes = [
            models.Index(fields=["account", "at"], name="sign_in_attempts_of_account"),
            models.Index(fields=["address", "at"], name="sign_in_attempts_from_address"),
            models.Index(fields=["at"], name="sign_in_attempt_oldest_first"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"
