"""YAML as a person means it: one reader for files, for `--set` and for the workflow.

Scalars follow YAML 1.2: `1e-3` is a number, `no` and `on` are words, `1:30` and dates are text. A key that stands twice
in one mapping is refused: the usual readers keep the last and drop what stood in the others.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from flowprior.errors import FlowpriorError

_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, and without doubled keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys differ; what `<<` brings in may be replaced, as it is meant to be."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, f"a key must be a word, got {key}", node.start_mark)
            if key in seen:
                raise FlowpriorError(
                    f"line {line}: '{key}' stands already in line {seen[key]}; join them or rename one"
                )
            seen[key] = line
        return super().construct_mapping(node, deep)


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))
_resolve("int", r"^[-+]?[0-9]+$", "-+0123456789")
_resolve("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")
_resolve("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+.")
_resolve("merge", r"^<<$", "<")
# Decimal alone: 010 is ten, as anybody reads it, and PyYAML's own would make it eight.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))


def parse(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        FlowpriorError: it is no YAML, or a key stands twice; one line with the place.

    Example:
        >>> parse("{rate: 1e-3, task: no}")
        {'rate': 0.001, 'task': 'no'}
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        remedy = "; indent by spaces" if "\\t" in str(error.problem) else ""
        raise FlowpriorError(f"{where}{error.problem or error.context}{remedy}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FlowpriorError(f"{' '.join(str(error).split())}") from None


def read(path: str | Path) -> dict[str, Any]:
    """The settings by name that a YAML file holds, in UTF-8.

    Raises:
        FlowpriorError: the file is missing, cannot be read, is no YAML, is empty or no mapping, or a key stands twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FlowpriorError(f"no experiment file at {path}; see params/ for those that exist") from None
    except IsADirectoryError:
        raise FlowpriorError(f"{path} is a folder; name a file in it, such as {path / 'demo.yaml'}") from None
    except UnicodeDecodeError:
        raise FlowpriorError(f"{path} is not in UTF-8 (UTF-16, perhaps); save it as UTF-8") from None
    except OSError as error:
        raise FlowpriorError(f"{path} cannot be read ({error.strerror}); see its permissions") from None
    try:
        found = parse(text)
    except FlowpriorError as error:
        raise FlowpriorError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise FlowpriorError(f"{path} must hold settings by name (such as 'name: mine'), and holds {what}")
    if odd := next((key for key in found if not isinstance(key, str)), None):
        raise FlowpriorError(f"{path} must hold settings by name, got the key {odd!r}; write it as a word")
    return found
