"""The API's rows, where Django looks for them."""

from apps.api.tokens.models import ApiToken

__all__ = ["ApiToken"]
