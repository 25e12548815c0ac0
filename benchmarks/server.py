"""What our Triton costs over the same model in ONNX Runtime in this process: latency added, and throughput kept.

The server is the one of the image `triton-cpu` (the same files, without the container), with the repository that the layout stage
makes, on the same cores. Callers send one sample a request over loopback, HTTP with binary tensors and gRPC; their own work is part of
what is measured. On a running stack, `gpuserve bench stacks/models/filetype.yaml --url URL --host HOST` measures the whole way.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Report, Row
from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ServedModel, Wishes
from gpuserve_images.layouts.spec import InstanceSpec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.store import cache_folder
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.grpc_server import GrpcServer
from gpuserve_images.verify.http_server import HttpServer
from gpuserve_images.verify.in_process import InProcess
from gpuserve_images.verify.inputs import verification_inputs
from gpuserve_images.verify.load import Callee, LoadPoint, Pace, measure_point
from gpuserve_images.verify.processor import cores
from gpuserve_images.verify.remote import Remote

MODEL, BUILD = "filetype", "fp32"
TURNS = 3
PACE = Pace(warm_up=1.0, seconds=3.0, at_least=20)
CONCURRENCIES = (1, 2, 4, 8)
ALONE = "in process"


def run(report: Report) -> dict[str, Any]:
    """Return latency and throughput in process, over HTTP and over gRPC, by concurrency; the best turn of each."""
    # The real server that the tests start.
    sys.path.append(str(ROOT / "tests" / "servers"))
    from environments import unpacked
    from triton_server import TritonServer

    path = ROOT / f"stacks/models/{MODEL}.yaml"
    model = load_model(path)
    job = Job(model, BUILD, path.parent, Target())
    report(f"building {MODEL} {BUILD}")
    with Runner(cache_folder()) as runner, tempfile.TemporaryDirectory(prefix="gpuserve-bench-") as name:
        file = make(plan(job), runner).model.file
        # As the server's instances: one thread each, as many as there are cores.
        session = Session(file, threads=1)
        requests = verification_inputs(model, BUILD, path.parent, session.signature, job.files(lambda *_: None).entry).tensors
        options = model.layout.model_copy(update={"instances": (InstanceSpec(count=cores()),)})
        served = ServedModel.of(MODEL, "onnx", file, session.signature)
        files, _ = lay_out("triton", served, Wishes(batch=model.batch, options=options, target=Target()))
        scratch = Path(name) / "scratch"
        scratch.mkdir()
        with TritonServer(unpacked(files, Path(name) / "root") / "models", scratch) as server:
            http = HttpServer(Remote(f"http://127.0.0.1:{server.http}", MODEL)).sending(requests)
            grpc = GrpcServer(Remote(f"grpc://127.0.0.1:{server.grpc}", MODEL)).sending(requests)
            return {"points": _measure({ALONE: InProcess(session, requests, threads=1), "HTTP": http, "gRPC": grpc}, report)}


def _measure(callees: dict[str, Callee], report: Report) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure in turns, so that what else the machine does disturbs all alike."""
    best: dict[str, dict[str, LoadPoint]] = {name: {} for name in callees}
    for turn in range(TURNS):
        for callers in CONCURRENCIES:
            report(f"{callers} callers, turn {turn + 1} of {TURNS}")
            for name, callee in callees.items():
                point = measure_point(callee, 1, callers, PACE)
                known = best[name].get(str(callers))
                if known is None or point.requests_per_second > known.requests_per_second:
                    best[name][str(callers)] = point
    return {name: {callers: point.model_dump() for callers, point in found.items()} for name, found in best.items()}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    points = result["points"]
    alone = points[ALONE]
    found: list[Row] = []
    for name in ("HTTP", "gRPC"):
        one = points[name]["1"]
        added = one["median_ms"] - alone["1"]["median_ms"]
        rates = {key: point["requests_per_second"] for key, point in points[name].items()}
        most, best = max(rates.items(), key=lambda item: item[1])[0], max(rates.values())
        beside = max(point["requests_per_second"] for point in alone.values())
        found.append(
            Row(
                f"our Triton over {name}, magika fp32, one sample a request",
                f"{added:+.2f} ms with one caller; {best:,.0f} requests/s with {most} callers",
                f"ONNX Runtime in process: {alone['1']['median_ms']:.2f} ms, {beside:,.0f} requests/s",
            )
        )
    return found
