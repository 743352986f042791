"""API tokens, of which only a digest is stored."""

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models


class ApiToken(models.Model):
    """A secret that stands for its owner.

    scope: what it opens. One that may change opens what one that only reads does.
    digest: SHA-256 of the secret, in hex. The secret is 32 random bytes, so a slow hash would protect nothing more.
    last_used_at: to the minute.
    """

    class Scope(models.TextChoices):
        READ = "read", "reading by /graphql"
        WRITE = "write", "the API: reading and changing by /graphql, pushed quotes, alerts"
        METRICS = "metrics", "/metrics alone"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(
        max_length=64, validators=[ProhibitNullCharactersValidator()], help_text="What it is for, like my laptop."
    )
    scope = models.CharField(
        max_length=7, choices=Scope, default=Scope.READ, help_text="What it opens. Choose the least that is needed."
    )
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on it is refused. Empty: never by itself."
    )
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "API token"
        permissions = [("read_metrics", "Can read /metrics, by a token of that scope")]
        # Serves every request that brings a token.
        constraints = [models.UniqueConstraint(fields=["digest"], name="one_token_per_digest")]

    def __str__(self) -> str:
        return self.name
