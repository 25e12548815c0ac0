"""What is found out about a GPU, against what NVIDIA's own program says of it."""

import json
import subprocess

from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve_images.compile.cuda import Device, capabilities, cuda_driver
from gpuserve_images.compile.gpus import find_gpus

ASKED = ("index", "name", "uuid", "compute_cap", "memory.total", "mig.mode.current", "driver_version")


def told() -> list[dict[str, str]]:
    command = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [dict(zip(ASKED, (cell.strip() for cell in line.split(",")), strict=True)) for line in lines]


def test_every_gpu_is_as_nvidia_smi_says(here):
    gpus, rows = find_gpus(), told()
    assert [(str(gpu.index), gpu.name, gpu.uuid) for gpu in gpus.found] == [
        (row["index"], row["name"], row["uuid"]) for row in rows
    ]
    assert [gpu.architecture for gpu in gpus.found] == [f"sm_{row['compute_cap'].replace('.', '')}" for row in rows]
    # In MiB; nvidia-smi leaves out what the driver keeps for itself.
    assert all(
        abs(gpu.memory / 2**20 / float(row["memory.total"]) - 1) < 0.05 for gpu, row in zip(gpus.found, rows, strict=True)
    )
    modes = {"Enabled": "enabled", "Disabled": "disabled"}
    assert [gpu.mig for gpu in gpus.found] == [modes.get(row["mig.mode.current"], "unsupported") for row in rows]
    assert gpus.driver == rows[0]["driver_version"]


def test_cuda_gives_the_same_gpus(here):
    driver, visible = cuda_driver(), find_gpus().visible
    assert sorted(capabilities(driver)) == sorted(gpu.architecture for gpu in visible)
    device = Device(driver, 0)
    assert device.name in {gpu.name for gpu in visible}
    device.close()


def test_doctor_is_content(here):
    said = {entry["subject"]: entry for entry in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)}
    assert said["gpu"]["ok"], said["gpu"]["found"]
    assert said["tensorrt"]["ok"], said["tensorrt"]["found"]
