"""YAML that people write, read strictly, and written so that it is read as the same. Pure but for the file itself."""

import re
from pathlib import Path
from typing import Any

import yaml

LARGEST_BYTES = 2_000_000


class FileInvalid(ValueError):
    """The file is wrong. One line that names the place in it and says what would be right."""


class _Loader(yaml.SafeLoader):
    """YAML in which plain scalars stay text: only true, false, null and nothing at all are resolved. Numbers and times
    are read by the field that they stand in, and a text is what was written: 000660, 12:30 and NO are themselves.

    Aliases are refused: a few lines of them can expand to more than a machine's memory ("billion laughs").
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias where it stands."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read here; write it out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is no text, and a key that is there already."""
        keys = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag != _TEXT or not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key must be a text; true, false and null are texts in quotes", key)
            if key.value in keys:
                raise _wrong(f"the key {key.value[:64]!r} is there twice", key)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_TEXT, _BOOL, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "null"))
_TRUTH = {"true": True, "false": False}


def _wrong(why: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, node.start_mark)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """Return the text. NUL and lone surrogates are refused, which no database stores."""
    text = loader.construct_scalar(node)
    if "\0" in text or any("\ud800" <= mark <= "\udfff" for mark in text):
        raise _wrong("the text contains an invalid character", node)
    return text


def _truth(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node)
    if text not in _TRUTH:
        raise _wrong("is neither true nor false", node)
    return _TRUTH[text]


# No other tag has a constructor, so that `!!int 010` is refused too.
_Loader.yaml_constructors = {
    _TEXT: _text,
    _BOOL: _truth,
    _NULL: lambda loader, node: None,
    "tag:yaml.org,2002:seq": yaml.SafeLoader.construct_yaml_seq,
    "tag:yaml.org,2002:map": yaml.SafeLoader.construct_yaml_map,
    None: yaml.SafeLoader.construct_undefined,
}
# First mark of a plain scalar -> what it may be instead of a text.
_Loader.yaml_implicit_resolvers = {
    "t": [(_BOOL, re.compile("true$"))],
    "f": [(_BOOL, re.compile("false$"))],
    "n": [(_NULL, re.compile("null$"))],
    "": [(_NULL, re.compile("$"))],
}


class _Dumper(yaml.SafeDumper):
    """What is there twice is written twice, since aliases are not read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_yaml(value: Any, *, is_compact: bool = False) -> str:
    """Return texts, truth values, None, lists and mappings of them as YAML, which `read_yaml_text` reads as the same.

    is_compact: the innermost lists and mappings stand on one line.
    """
    flow_style = None if is_compact else False
    return yaml.dump(
        value, Dumper=_Dumper, default_flow_style=flow_style, sort_keys=False, allow_unicode=True, width=100
    )


def read_yaml(path: Path) -> Any:
    """Return what the file says: texts, True, False, None, lists, and mappings with texts as keys.

    Raises FileInvalid.
    """
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
