"""Reading YAML that people wrote."""

from collections.abc import Iterator
from typing import Any

import yaml

from gpuserve.kubernetes.yaml_scalars import BOOL, BOOLS, DATE, FLOAT, INT, MERGE, is_rounded, number, tag_of

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml, where it is there, is ten times as fast."""


class YamlSyntaxError(ValueError):
    """A text that is no YAML; the message says where and why, and never repeats the text, which may hold a secret.

    Attributes:
        fix: What to do about it.
    """

    def __init__(self, reason: str, fix: str = "correct the syntax") -> None:
        super().__init__(reason)
        self.fix = fix


class _Loader(_Base):
    """Takes bare words as Pulumi's engine does, and so do most editors; the library keeps to YAML 1.1."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """Return the tag of a node that has none."""
        if kind is yaml.ScalarNode and implicit[0]:
            return tag_of(value)
        return super().resolve(kind, value, implicit)


def _bool(_: Any, node: yaml.ScalarNode) -> bool:
    if node.value not in BOOLS:
        raise _unlike(node)
    return BOOLS[node.value]


def _number(_: Any, node: yaml.ScalarNode) -> int | float:
    value = number(node.value)
    if value is None:
        raise _unlike(node)
    if is_rounded(node.value):
        reason = "is a whole number of more digits than Pulumi keeps, which would become another one"
        fix = "put it in quotes where it is a text; else write a number up to 2^53 (9007199254740992), or one with an exponent"
        raise YamlSyntaxError(f"{_where(node.start_mark)}{reason}", fix)
    return value


def _date(_: Any, node: yaml.ScalarNode) -> None:
    reason = "is a date without quotes, to which Pulumi would add a time and a zone"
    raise YamlSyntaxError(f"{_where(node.start_mark)}{reason}", "put it in quotes")


for _tag, _construct in ((BOOL, _bool), (INT, _number), (FLOAT, _number), (DATE, _date)):
    _Loader.add_constructor(_tag, _construct)


def _unlike(node: yaml.ScalarNode) -> YamlSyntaxError:
    kind = node.tag.rpartition(":")[2]
    return YamlSyntaxError(f"{_where(node.start_mark)}is not what its tag `!!{kind}` says", "leave the tag out")


def _where(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: "


def read_yaml(text: str) -> Any:
    """Return the one document of a YAML text.

    Raises:
        YamlSyntaxError: When it is none. One that gives a key twice is none either; the library would take the last one. Refused too are dates
            without quotes, which the engine would write otherwise than the file does.
    """
    try:
        loader = _Loader(text)
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
        where = _where(mark) if mark else ""
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
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            line, column, name = key.start_mark.line + 1, key.start_mark.column + 1, (key.tag, key.value)
            if name in lines:
                yield f"line {line}, column {column}: repeats the key of line {lines[name]}"
            lines.setdefault(name, line)
        waiting += [value for _, value in reversed(node.value)]
