"""What a browser posts from the form of a rule."""

from typing import Any

from apps.market.models import Asset

OWNER_MAY = ("rules.view_rule", "rules.add_rule", "rules.change_rule", "rules.delete_rule", "market.view_asset")


def written(**fields: Any) -> dict[str, Any]:
    """Return what a browser posts: a rule on BTC-USD, with these fields in it."""
    posted = {
        **{"name": "rule", "severity": "warning", "enabled": "on", "watch": "symbols", "tag": "", "feed": ""},
        **{"symbols": [Asset.objects.get(symbol="BTC-USD").pk], "kind": "above", "level": "100", "trigger": "edge"},
        **{"expires_at_0": "", "expires_at_1": ""},
    }
    if "kind" in fields:
        del posted["level"]
    return posted | fields
