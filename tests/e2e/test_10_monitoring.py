"""Every query of every rule and panel returns data in a real Prometheus that was given the stack's own rules."""

import pytest
import requests
import yaml
from e2e_cluster import ROOT, Cluster, run, wait_for
from e2e_stack import Stack
from e2e_traffic import Load

from gpuserve.cli.stack import open_stack
from gpuserve.monitoring.manifests import queries
from gpuserve_embedded.tools import ensure

pytestmark = pytest.mark.e2e


def _ask(stack: Stack, path: str, **parameters: str):
    answer = requests.get(f"{stack.answer['prometheus']}/api/v1/{path}", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.fixture(scope="module")
def rules(stack: Stack) -> str:
    return stack.cluster.get("configmap", "gpuserve-rules-local", "-n", "monitoring")["data"]["gpuserve-local.yaml"]


def test_every_query_of_rules_and_dashboard_returns_data(stack: Stack):
    wanted = [query for spec in open_stack("local", ROOT / "stacks").plan.monitoring.values() for query in queries(spec)]
    assert len(wanted) > 5
    missing = dict.fromkeys(wanted, "never asked")
    with Load(stack.url, threads=2, pause=0.05):

        def all_answered() -> bool:
            for query in list(missing):
                if _ask(stack, "query", query=query)["result"]:
                    del missing[query]
            return not missing

        try:
            wait_for("data", all_answered, seconds=120, every=2)
        except AssertionError:
            pytest.fail("no data for:\n" + "\n".join(missing))


def test_prometheus_runs_the_rules_that_the_stack_declares(stack: Stack, rules: str):
    declared = {
        (group["name"], rule.get("record") or rule.get("alert"))
        for group in yaml.safe_load(rules)["groups"]
        for rule in group["rules"]
    }

    def running() -> dict[tuple[str, str], str]:
        groups = _ask(stack, "rules")["groups"]
        return {(group["name"], rule["name"]): rule["health"] for group in groups for rule in group["rules"]}

    wait_for("every rule to be evaluated", lambda: set(running().values()) == {"ok"}, seconds=60, every=2)
    assert declared <= set(running())


def test_promtool_accepts_the_rules(stack: Stack, rules: str, tmp_path):
    file = tmp_path / "gpuserve.yaml"
    file.write_text(rules)
    done = run([ensure("promtool", print), "check", "rules", file])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_server_is_scraped(stack: Stack, quiet: Cluster):
    def health() -> list[str]:
        targets = _ask(stack, "targets", state="active")["activeTargets"]
        return [target["health"] for target in targets if target["labels"].get("namespace") == "gpuserve-local"]

    wait_for("two servers, both up", lambda: health() == ["up", "up"], seconds=60, every=2)
