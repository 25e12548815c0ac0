"""What `status` tells of edits by hand, from the managed fields that a real API server wrote down."""

from typing import Any

import pytest

from gpuserve.cli.edits import edits

TIME = "2026-11-23T08:00:00Z"
ADDED = {
    "f:template": {
        "f:spec": {
            "f:containers": {
                'k:{"name":"server"}': {
                    "f:env": {
                        'k:{"name":"LD_PRELOAD"}': {".": {}, "f:name": {}, "f:value": {}},
                        'k:{"name":"HOME"}': {"f:value": {}},
                    }
                }
            }
        }
    }
}


def changed(manager: str, fields: dict[str, Any], operation: str = "Update", **entry: Any) -> dict[str, Any]:
    own = {"manager": "pulumi-gpuserve-local", "operation": "Apply", "time": TIME, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    entry = {"manager": manager, "operation": operation, "time": TIME, "fieldsType": "FieldsV1", "fieldsV1": fields, **entry}
    return {"kind": "Deployment", "metadata": {"name": "a", "managedFields": [own, entry]}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (ADDED, "spec.template.spec.containers[server].env[LD_PRELOAD], spec.template.spec.containers[server].env[HOME].value"),
        ({"f:maxReplicas": {}}, "spec.maxReplicas"),
        ({"f:finalizers": {'v:"a.example/b"': {}}, "f:rules": {"i:0": {}}}, "spec.finalizers[a.example/b], spec.rules[0]"),
        ({"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:targetPort": {}}}}, "spec.ports[80, TCP].targetPort"),
        ({f"f:{name}": {} for name in "abcdef"}, "spec.a, spec.b, spec.c, spec.d and 2 more"),
    ],
)
def test_fields_are_told_as_people_write_them(fields, told):
    assert edits(changed("kubectl-edit", {"f:spec": fields})) == [f"{told} by kubectl-edit at {TIME}"]


@pytest.mark.parametrize(
    "found",
    [
        changed("kube-controller-manager", {"f:spec": ADDED}),
        changed("kubectl-client-side-apply", {"f:spec": ADDED}),
        changed("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        changed("kubectl-edit", {"f:status": {}}, subresource="status"),
        changed("kubectl-edit", {"f:metadata": {"f:labels": {}}}),
        {"kind": "Deployment", "metadata": {"name": "a"}},
    ],
)
def test_what_is_no_edit_by_hand_is_not_told(found):
    assert edits(found) == []
