"""`gpuserve check`: everything that can be said about an environment without a cluster."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from gpuserve.cli.guard import FAILED
from gpuserve.cli.options import STACKS, AnyStackOption, JsonOption, StacksOption
from gpuserve.cli.output import notice, show, to_json
from gpuserve.kubernetes.errors import GpuserveError

if TYPE_CHECKING:
    from gpuserve.kubernetes.metadata import Manifest


@dataclass(frozen=True)
class Finding:
    """Something wrong with one object of a stack.

    Attributes:
        stack: The environment.
        object: ``Kind namespace/name``, or the stack's file.
        rule: The policy rule, ``schema`` or ``stack file``.
        field: Path inside the object.
        reason: Why it is wrong.
        fix: What to do instead.
    """

    stack: str
    object: str
    rule: str
    field: str
    reason: str
    fix: str


def check(
    context: typer.Context,
    stack: AnyStackOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every environment.")] = False,
    stacks: StacksOption = STACKS,
    as_json: JsonOption = False,
) -> None:
    """Check stack and model files, the manifests they become against Kubernetes' schemas, and the policies."""
    from gpuserve.platform.load import stack_names

    if everything and _was_written(context, "stack"):
        raise typer.BadParameter("give either --stack ENV or --all")
    if not everything and stack is None:
        raise typer.BadParameter("give --stack ENV (or set PULUMI_STACK), or --all")
    names = [stack] if stack and not everything else stack_names(stacks)
    if not names:
        raise typer.BadParameter(f"no stack file in {stacks}; a stack file is called Pulumi.ENV.yaml")
    found: list[Finding] = []
    counts: dict[str, int] = {}
    broken: list[str] = []
    notes: list[str] = []
    for name in names:
        try:
            counts[name], findings, said = _check_stack(name, stacks)
            found += findings
            notes += said
        except GpuserveError as error:
            if len(names) == 1 and not as_json:
                raise
            broken.append(str(error))
    _report(counts, found, broken, notes, as_json=as_json)
    if found or broken:
        raise typer.Exit(FAILED)


def _was_written(context: typer.Context, option: str) -> bool:
    """Tell whether an option stands on the command line, and not only in the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check_stack(name: str, stacks: Path) -> tuple[int, list[Finding], list[str]]:
    from gpuserve.cli.stack import open_stack
    from gpuserve_policies import Context

    stack = open_stack(name, stacks)
    context = Context(built_images=stack.images)
    manifests = list(stack.manifests())
    findings = [finding for manifest in manifests for finding in check_manifest(name, manifest, context)]
    return len(manifests), findings, list(stack.notes())


def check_manifest(stack: str, manifest: "Manifest", context: Any) -> Iterator[Finding]:
    """Yield what the schemas and the policies have against one object."""
    from gpuserve.kubernetes.schemas import KUBERNETES_VERSION, schema_errors
    from gpuserve_policies import RULES, violations

    where = object_name(manifest)
    for field, reason in schema_errors(manifest):
        yield Finding(stack, where, "schema", field, reason, f"correct the field to Kubernetes {KUBERNETES_VERSION}'s schema")
    for rule in RULES:
        for violation in violations(rule, manifest, context):
            given = "" if violation.value is None else f" = {violation.value!r}"
            yield Finding(stack, where, rule.name, f"{violation.field}{given}", violation.reason, rule.fix)


def object_name(manifest: "Manifest") -> str:
    """Return ``Kind namespace/name``."""
    metadata = manifest["metadata"]
    scope = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {scope}{metadata['name']}"


def _report(counts: dict[str, int], found: list[Finding], broken: list[str], notes: list[str], *, as_json: bool) -> None:
    if as_json:
        result = {"objects": counts, "violations": [asdict(finding) for finding in found], "errors": broken, "notes": notes}
        typer.echo(to_json(result))
        return
    if found:
        table = Table(
            "stack", Column("object", overflow="fold"), "rule", Column("why", overflow="fold"), "fix", show_lines=True
        )
        for finding in found:
            why = f"{finding.field} {finding.reason}"
            table.add_row(finding.stack, finding.object, finding.rule, escape(why), escape(finding.fix))
        show(table)
    for error in broken:
        notice(error)
    for note in notes:
        notice(f"note: {note}")
    bad = {finding.stack for finding in found}
    for name, count in counts.items():
        if name not in bad:
            typer.echo(f"{name}: {count} objects, all rules hold")
