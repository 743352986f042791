"""The owners' pages: channels, silences, messages, and what was told about each alert; and the channels in the form of
a rule."""

from apps.notify.admin.alerts import ToldAlertAdmin
from apps.notify.admin.channels import ChannelAdmin
from apps.notify.admin.messages import MessageAdmin
from apps.notify.admin.rules import ToldRuleAdmin
from apps.notify.admin.silences import SilenceAdmin

__all__ = ["ChannelAdmin", "MessageAdmin", "SilenceAdmin", "ToldAlertAdmin", "ToldRuleAdmin"]
