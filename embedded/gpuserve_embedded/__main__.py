"""``python -m gpuserve_embedded``."""

from gpuserve_embedded.cli import app

app(prog_name="python -m gpuserve_embedded")
