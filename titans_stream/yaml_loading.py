"""Reads a YAML file to plain data that remembers its lines.

Scalars follow YAML 1.2 (`no` is text, `1e-3` a number, a date is text). `${NAME}` and
`${NAME:-default}` are replaced by environment variables, `$$` is a dollar sign; what replaces them
is text and gets its type from the setting it is for. A key that is there twice, an unset
variable and a secret that is written out are errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Location = tuple[str | int, ...]
"""Where a value stands: keys and positions from the root."""

_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_LONGEST_FILE = 1_000_000
_MOST_NODES = 100_000
_DEEPEST = 50
_VARIABLE = re.compile(r"\$\$|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?")
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}")
_SECRET_KEY = re.compile(r"(?:^|_)(?:password|passwd|secret|token|authorization)$", re.IGNORECASE)
_SECRET_URL = re.compile(r"://[^/\s:@]*:[^/\s@$]+@")


class ConfigError(ValueError):
    """What is wrong with a file of settings, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """Plain data and the lines that it was read from.

    `variables`: the values that came from the environment, and the references that stand for them.
    """

    file: str
    data: Any
    lines: Mapping[Location, int]
    variables: Mapping[str, str]

    def line(self, location: Location) -> int:
        """The line of the value at `location`, or of the nearest one around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the scalars of YAML 1.2's core schema and no others."""


_Loader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def load_yaml(path: str | Path, environment: Mapping[str, str]) -> YamlDocument:
    """Read a file. ConfigError for a file that cannot be read and for every problem found."""
    file = str(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([f"{file}: cannot be read: {reason}"]) from None
    if len(content) > _LONGEST_FILE:
        raise ConfigError([f"{file}: longer than {_LONGEST_FILE:,} bytes"])
    try:
        root = yaml.compose(content.decode(), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{file}:{line}: not valid YAML: {error.problem}"]) from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise ConfigError([f"{file}: not YAML text in UTF-8"]) from None
    except RecursionError:
        raise ConfigError([f"{file}: nested too deeply"]) from None
    builder = _Builder(file, environment)
    data = None if root is None else builder.build(root, (), frozenset())
    if builder.problems:
        raise ConfigError(builder.problems)
    return YamlDocument(file, data, builder.lines, builder.variables)


class _Builder:
    """Turns nodes to data, collecting lines and problems."""

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._nodes = 0
        self.lines: dict[Location, int] = {}
        self.problems: list[str] = []
        self.variables: dict[str, str] = {}

    def build(self, node: yaml.Node, location: Location, around: frozenset[int]) -> Any:
        """The data of a node; `around` holds the nodes that it stands in."""
        self.lines.setdefault(location, node.start_mark.line + 1)
        self._nodes += 1
        if id(node) in around or len(location) > _DEEPEST or self._nodes > _MOST_NODES:
            raise ConfigError([self._text(node, location, "nested or repeated too much")])
        inside = around | {id(node)}
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            self._problem(node, location, f"the tag {node.tag} is not allowed")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location, inside)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(child, (*location, index), inside)
                for index, child in enumerate(node.value)
            ]
        return self._scalar(node, location)

    def _mapping(
        self, node: yaml.MappingNode, location: Location, inside: frozenset[int]
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, location, "a key must be text")
                continue
            key = key_node.value
            here = (*location, key)
            if key in data:
                self._problem(key_node, here, f"is there twice, first in line {self.lines[here]}")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, here, inside)
        return data

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        if kind != "null" and self._written_out(text, location):
            self._problem(
                node,
                location,
                "a secret may not be written here; use a reference such as ${PASSWORD} to an "
                "environment variable",
            )
            return None
        if kind == "str":
            return self._interpolated(node, location)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                base = {"0o": 8, "0x": 16}.get(text[:2], 10)
                return int(text if base == 10 else text[2:], base) if len(text) < 100 else text
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self._problem(node, location, f"not what its tag !!{kind} says")
            return None
        self._problem(node, location, f"the tag {node.tag} is not allowed")
        return None

    def _written_out(self, text: str, location: Location) -> bool:
        names = [part for part in location if isinstance(part, str)]
        if names and _SECRET_KEY.search(names[-1]):
            return _REFERENCE.fullmatch(text) is None
        return _SECRET_URL.search(text) is not None

    def _interpolated(self, node: yaml.Node, location: Location) -> str:
        def replacement(match: re.Match[str]) -> str:
            name, default = match[1], match[2]
            if match[0] == "$$":
                return "$"
            if name is None:
                self._problem(node, location, "'${' needs a name and '}'; '$${' is a literal '${'")
                return ""
            value = self._environment.get(name)
            if not value and default is not None:
                return str(default[2:])
            if value is None:
                self._problem(node, location, f"the environment variable {name} is not set")
            elif value:
                self.variables[value] = f"${{{name}}}"
            return value or ""

        return _VARIABLE.sub(replacement, node.value)

    def _problem(self, node: yaml.Node, location: Location, text: str) -> None:
        self.problems.append(self._text(node, location, text))

    def _text(self, node: yaml.Node, location: Location, text: str) -> str:
        field = format_location(location)
        return f"{self._file}:{node.start_mark.line + 1}: {field + ': ' if field else ''}{text}"


def format_location(location: Location) -> str:
    """`alerts.rules[0].series` of ("alerts", "rules", 0, "series")."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
