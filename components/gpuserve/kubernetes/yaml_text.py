"""Reading YAML that people wrote."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_BOOL = "tag:yaml.org,2002:bool"


def _loader() -> Any:
    """Return a loader that takes words and numbers as YAML 1.2 does, and with it Pulumi's engine and editors.

    The library keeps to 1.1, where `no` is false and `1e3` is a text. libyaml, where it is there, is ten times as fast.
    """
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("_Loader", (base,), {"yaml_implicit_resolvers": resolvers})
    loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    exponent = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    return loader


_LOADER = _loader()


_MERGE = "tag:yaml.org,2002:merge"


class YamlSyntaxError(ValueError):
    """A text that is no YAML; the message says where and why, and never repeats the text, which may hold a secret.

    Attributes:
        fix: What to do about it.
    """

    def __init__(self, reason: str, fix: str = "correct the syntax") -> None:
        super().__init__(reason)
        self.fix = fix


def read_yaml(text: str) -> Any:
    """Return the one document of a YAML text.

    Raises:
        YamlSyntaxError: When it is none. One that gives a key twice is none either; the library would take the last one.
    """
    try:
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            repeated = list(_repeated_keys(node))
            if not repeated:
                return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
        raise YamlSyntaxError("; ".join(repeated), "keep one of the two")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = " ".join(part for part in (error.problem, error.context) if part)
        reason = f"{where}{said}"
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
    # Outside of the handlers: the library's own error quotes the line.
    raise YamlSyntaxError(reason)


def _repeated_keys(root: yaml.Node | None) -> Iterator[str]:
    """Yield where a mapping gives a key that it gave before, and where that was."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))  # an alias is the very node of its anchor
        if not isinstance(node, yaml.MappingNode):
            waiting += reversed(node.value)
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line, column, name = key.start_mark.line + 1, key.start_mark.column + 1, (key.tag, key.value)
            if name in lines:
                yield f"line {line}, column {column}: repeats the key of line {lines[name]}"
            lines.setdefault(name, line)
        waiting += [value for _, value in reversed(node.value)]
