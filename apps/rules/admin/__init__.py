"""The owners' pages: what is watched, in words; how far each instance of it has come, by which steps, and why."""

from apps.rules.admin.forms import RuleForm
from apps.rules.admin.pages import OwnedRows
from apps.rules.admin.question import Beside
from apps.rules.admin.rules import RuleAdmin
from apps.rules.admin.runs import BacktestRunAdmin
from apps.rules.admin.steps import TransitionAdmin

__all__ = ["BacktestRunAdmin", "Beside", "OwnedRows", "RuleAdmin", "RuleForm", "TransitionAdmin"]
