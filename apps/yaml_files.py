"""YAML files that people write, read strictly. Pure but for the file itself."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

LARGEST_BYTES = 2_000_000


class FileInvalid(ValueError):
    """The file is wrong. One line that names the place in it and says what would be right."""


class _Loader(yaml.SafeLoader):
    """YAML with numbers as Decimal and times as text: both are read by the parser of the field that they stand in.

    Aliases are refused: a few lines of them can expand to more than a machine's memory ("billion laughs").
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias where it stands."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read here; write it out", mark)
        return super().compose_node(parent, index)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """Return the text. NUL and lone surrogates are refused, which no database stores."""
    text = loader.construct_scalar(node)
    if "\0" in text or any("\ud800" <= mark <= "\udfff" for mark in text):
        raise yaml.constructor.ConstructorError(None, None, "the text contains an invalid character", node.start_mark)
    return text


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text.replace("_", ""))
    except ArithmeticError:
        return text


_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: _decimal(loader.construct_scalar(node)))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Any:
    """Return what the file says; numbers are Decimal or int, times are text. Raises FileInvalid."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise FileInvalid(f"{path.name} is larger than {LARGEST_BYTES} bytes")
        text = content.decode("utf-8")
    except OSError as error:
        raise FileInvalid(f"{path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileInvalid(f"{path.name} is not UTF-8") from None
    return read_yaml_text(text, name=path.name)


def read_yaml_text(text: str, *, name: str) -> Any:
    """Return what a text says, as `read_yaml` does. name: what errors call it."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506, a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise FileInvalid(f"{name}{line}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise FileInvalid(f"{name} is not YAML") from None
