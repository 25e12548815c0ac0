"""Units accept what people write, refuse what Kubernetes would not understand, and print back the same way."""

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.identifiers import DnsLabel, HostName
from gpuserve.kubernetes.image_names import ImageInput
from gpuserve.kubernetes.spec import Spec, plain
from gpuserve.kubernetes.units import Bytes, Cpu, Duration, GpuCount, Percent


class Everything(Spec):
    size: Bytes = Bytes("1Gi")
    time: Duration = Duration("300s")
    cpu: Cpu = Cpu("100m")
    share: Percent = Percent("99.9%")
    name: DnsLabel = "name"
    host: HostName = "example.com"
    gpus: GpuCount = 1
    image: ImageInput = "image"


@pytest.mark.parametrize(
    ("unit", "text", "amount"),
    [
        (Bytes, "16Gi", 16 * 2**30),
        (Bytes, "500M", 500e6),
        (Bytes, "1024", 1024),
        (Duration, "10ms", 0.01),
        (Duration, "1h30m", 5400),
        (Duration, "300s", 300),
        (Cpu, "500m", 0.5),
        (Cpu, "2", 2),
        (Percent, "99.9%", 99.9),
        (Percent, "20", 20),
    ],
)
def test_reads_amounts_and_prints_them_as_written(unit, text, amount):
    value = unit(text)
    assert value.amount == pytest.approx(amount)
    assert str(value) == text
    assert unit(str(value)) == value


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("size", "16Gb", "is not a size (units: (none), k, M, G, T, Ki, Mi, Gi, Ti) write for example 16Gi"),
        ("size", "lots", "16Gi"),
        ("size", "\uff13\uff12Gi", "write for example 32Gi"),
        ("time", "\uff11\uff10 \uff53", "write for example 10s"),
        ("cpu", "\u0662", "write for example 500m"),
        ("share", "\uff19\uff19%", "is not a share in percent"),
        ("size", True, "is not a size write for example 16Gi"),
        ("time", "5 minutes", "is not a length of time (units: ms, s, m, h, d) write for example 5m"),
        ("time", 10, "write for example 10s"),
        ("time", "30 s", "write for example 30s"),
        ("time", "2.5 Hours", "write for example 2.5h"),
        ("time", "100 msec", "write for example 100ms"),
        ("time", "3 weeks", "write for example 300s"),
        ("size", "512 MB", "write for example 512Mi"),
        ("size", "20 G", "write for example 20G"),
        ("cpu", "two", "is not an amount of processors (units: (none), m) write for example 500m"),
        ("share", "most", "is not a share in percent (units: (none), %) write for example 99.9%"),
        ("share", 120, "0 to 100"),
        ("name", "My_Model", "lower-case"),
        ("name", "x" * 41, "40 characters"),
        ("host", "under_score.example.com", "DNS name"),
        ("gpus", 0.5, "whole number"),
        ("gpus", -1, "greater than or equal to 0"),
        ("image", "", "pass an image's name"),
        ("image", "Models/File Type", "is no image's name"),
    ],
)
def test_wrong_values_are_refused_with_the_fix(field, value, says):
    with pytest.raises(SpecError) as caught:
        Everything.parse({field: value}, file="f.yaml")
    (problem,) = caught.value.problems
    assert problem.field == field
    assert problem.value == value
    assert says in f"{problem.reason} {problem.fix}"
    assert "f.yaml" in str(problem)


def test_all_problems_come_at_once():
    with pytest.raises(SpecError) as caught:
        Everything.parse({"size": "16Gb", "share": 120, "hots": "x"})
    assert {problem.field for problem in caught.value.problems} == {"size", "share", "hots"}


def test_an_unknown_field_names_the_near_miss():
    with pytest.raises(SpecError, match="did you mean 'host'"):
        Everything.parse({"hots": "x"})


def test_outputs_pass_through_leaves_and_are_refused_in_structure():
    output = pulumi.Output.from_input("registry/image@sha256:0")
    assert Everything.parse({"image": output}).image is output
    with pytest.raises(SpecError, match="known at plan time"):
        Everything.parse({"gpus": output})


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(sorted(Bytes.units)))
def test_any_size_round_trips(number, unit):
    spec = Everything.parse({"size": f"{number}{unit}"})
    assert plain(spec)["size"] == f"{number}{unit}"
    assert Everything.parse(plain(spec)) == spec
