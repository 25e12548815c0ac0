"""What is up is left as it is: by a second `make up`, and by preview, up and refresh by hand. What was changed by hand is put right."""

import json
import tempfile
import time
from pathlib import Path

import pytest
from e2e_cluster import Cluster, run, wait_for
from e2e_stack import Stack, command

pytestmark = pytest.mark.e2e

SECOND_UP_SECONDS = 30


def _pulumi(stack: Stack, *arguments: str):
    return run(["pulumi", "--non-interactive", "--color", "never", *arguments], stack.variables, timeout=300)


def _versions(cluster: Cluster) -> dict[str, str]:
    """Return the generation of everything that the stack declares: it grows with each change of a spec."""
    kinds = (
        "deployments,services,horizontalpodautoscalers,gateways.gateway.networking.k8s.io,httproutes,networkpolicies,configmaps"
    )
    return {
        f"{found['kind']}/{found['metadata']['name']}": f"{found['metadata']['uid']} {found['metadata'].get('generation')}"
        for found in cluster.get(kinds, "-n", "gpuserve-local")
    }


def _kubeconfigs() -> set[Path]:
    """Return the copies of a kubeconfig among this machine's temporary files."""
    return set(Path(tempfile.gettempdir()).glob("kubeconfig*"))


def test_a_second_up_takes_seconds_and_changes_nothing(stack: Stack, quiet: Cluster):
    before, temporary = _versions(quiet), _kubeconfigs()
    started = time.monotonic()
    again = command("up", "--json")
    seconds = time.monotonic() - started
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert "unchanged" in answer["changes"]
    assert not any(word in answer["changes"] for word in ("create", "update", "delete", "replace")), answer["changes"]
    assert answer["services"] == stack.answer["services"]
    assert _versions(quiet) == before
    assert seconds < SECOND_UP_SECONDS, answer["seconds"]
    assert _kubeconfigs() <= temporary  # the provider leaves one with each run: where `make down` removes it


def test_a_preview_by_hand_expects_no_changes_and_runs_the_policies(stack: Stack, quiet: Cluster):
    done = _pulumi(stack, "preview", "-s", "local", "--expect-no-changes", "--policy-pack", "policies")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpuserve" in done.stdout
    assert "Policies" in done.stdout or "policy" in done.stdout.lower()


def test_an_up_by_hand_with_the_policies_changes_nothing(stack: Stack, quiet: Cluster):
    by_hand = ("up", "-s", "local", "--yes", "--skip-preview", "--expect-no-changes", "--policy-pack", "policies")
    done = _pulumi(stack, *by_hand)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "polic" in done.stdout.lower()


def test_a_refresh_by_hand_finds_what_the_state_says(stack: Stack, quiet: Cluster):
    done = _pulumi(stack, "refresh", "-s", "local", "--yes", "--skip-preview", "--expect-no-changes")
    assert done.returncode == 0, done.stdout + done.stderr
    done = _pulumi(stack, "preview", "-s", "local", "--expect-no-changes")
    assert done.returncode == 0, done.stdout + done.stderr


PLACE = ("-n", "gpuserve-local")
INT8 = "deployment/filetype-int8"


def _edit_environment(cluster: Cluster, *variables: str) -> None:
    """Edit a server's variables by hand, and wait until that is all over: of a rollout the engine sees that it is not ready."""
    cluster.kubectl("set", "env", INT8, *variables, *PLACE)
    cluster.kubectl("rollout", "status", INT8, "--timeout=120s", *PLACE)
    wait_for("the old server's end", lambda: len(cluster.pods("int8", leaving=True)) == 1, seconds=120, every=2)


def _environment(cluster: Cluster) -> dict[str, str]:
    (container,) = cluster.get("deployment", "filetype-int8", *PLACE)["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def _status(stack: Stack, *options: str) -> tuple[int, str]:
    done = run([".venv/bin/gpuserve", "status", "-s", "local", *options], stack.variables)
    return done.returncode, " ".join(done.stdout.split())


def test_what_was_deleted_or_edited_by_hand_is_put_right_by_up(stack: Stack, quiet: Cluster):
    there, before = set(_versions(quiet)), _environment(quiet)
    assert before["ORT_DISABLE_TELEMETRY"] == "1"
    quiet.kubectl("delete", "deployment/filetype-fp32", "networkpolicy/filetype-int8", "configmap/filetype-ca", *PLACE)
    _edit_environment(quiet, "ORT_DISABLE_TELEMETRY=0", "LD_PRELOAD=/tmp/evil.so")
    quiet.kubectl("patch", "hpa", "filetype-int8", "--type=merge", "-p", '{"spec": {"maxReplicas": 9}}', *PLACE)
    status, told = _status(stack)
    assert status == 1
    assert "does not exist; `pulumi up --refresh` makes it" in told
    again = command("up", "--json")
    assert again.returncode == 0, again.stderr
    assert "+ 3 created" in json.loads(again.stdout)["changes"], again.stdout
    assert set(_versions(quiet)) == there
    assert _environment(quiet) == before
    assert quiet.get("hpa", "filetype-int8", *PLACE)["spec"]["maxReplicas"] == 3
    assert "edited" not in _status(stack)[1]


def test_what_was_added_by_hand_is_told_by_status(stack: Stack, quiet: Cluster):
    """The provider compares lists as far as the program's own go, so no `up` sees it."""
    _edit_environment(quiet, "LD_PRELOAD=/tmp/evil.so")
    told = json.loads(_status(stack, "--json")[1])
    (edited,) = told["services"]["filetype"]["parts"]["pods int8"]["edited"]
    assert edited.startswith("spec.template.spec.containers[server].env[LD_PRELOAD] by kubectl-set at 20")
    assert "edited by hand" in _status(stack)[1]
    _edit_environment(quiet, "LD_PRELOAD-")
    assert "edited" not in _status(stack)[1]
