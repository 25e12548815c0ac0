"""Running a build's stages until its bars are met; nothing is pushed here."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuserve_images.compile.inspection import engine_summaries
from gpuserve_images.errors import ImageError, SourceError
from gpuserve_images.pipeline import laid
from gpuserve_images.pipeline.chain import Chain, Way
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.report import StageRun, Summary
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.pipeline.stage import Done
from gpuserve_images.pipeline.stages.kept import ENGINE, SIGNATURE, capacity_of, constant_of, losses_of, parity_of, signature_of
from gpuserve_images.pipeline.stages.models import EXPORT, level_of
from gpuserve_images.records import StageRecord
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.differences import MissedError, Parity, ParityError
from gpuserve_images.verify.judging import blind, judge
from gpuserve_images.verify.report import VerifyReport, engines_not_run


@dataclass(frozen=True)
class Made:
    """A build whose bars are met.

    Attributes:
        way: How it was made.
        summary: What its image says about itself.
        model: The stage of its ONNX file, of one of its engines, or the source that is served as it is.
        missed: Why ways that were preferred to this one were given up.
        engines: Differences of the engines that were run, by architecture.
        not_run: Why the other engines were not, by architecture.
    """

    way: Way
    summary: Summary
    model: Done
    missed: tuple[str, ...] = ()
    engines: Mapping[str, Parity] = field(default_factory=dict[str, Parity])
    not_run: Mapping[str, str] = field(default_factory=dict[str, str])

    def files(self, runner: Runner) -> dict[str, Path]:
        """Return the files of the image by their path in it."""
        layout = runner.get(self.way.layout)
        needed = laid.roles(layout.folder)
        return laid.load(layout.folder, {role: runner.get(self.way.layout.after[role]).folder for role in needed})

    def outputs(self, runner: Runner) -> dict[str, Path]:
        """Return what was made, by name: `model.onnx` with its weights, or `<architecture>/model.engine`, and `signature.json`."""
        if self.way.engines:
            made = {f"{name}/{ENGINE}": runner.get(stage).folder / ENGINE for name, stage in self.way.engines.items()}
        else:
            made = {name: self.model.folder / name for name in self.model.record.outputs}
        return made | {SIGNATURE: self.model.folder / SIGNATURE}

    def capacity(self, runner: Runner) -> Capacity | None:
        """Return how fast the build is on this machine; None where it cannot run here. Of several engines the first that can counts."""
        if self.way.capacity:
            return capacity_of(runner.get(self.way.capacity))
        for measures in self.way.measures.values():
            if runner.refusal(measures.capacity) is None:
                return capacity_of(runner.get(measures.capacity))
        return None

    def report(self, chain: Chain, runner: Runner) -> VerifyReport:
        """Return what was measured: no part of the image, whose digest must not differ, and attached to it."""
        engines = (runner.get(stage).record for stage in self.way.engines.values())
        reasons = dict.fromkeys(self.not_run.values())
        notes = [note] if (note := self._blindness(chain, runner)) else []
        notes += [engines_not_run([name for name in self.not_run if self.not_run[name] == why], why) for why in reasons]
        return VerifyReport(
            model=self.summary.model,
            build=self.summary.build,
            parity=self.summary.parity,
            bars=chain.job.model.bars(self.summary.build).stated() if self.summary.parity else {},
            capacity=self.capacity(runner),
            engines=engine_summaries(engines),
            ran=self.engines,
            ran_bars=chain.job.model.engine_bars(self.summary.build).stated() if self.engines else {},
            notes=tuple(notes),
        )

    def _blindness(self, chain: Chain, runner: Runner) -> str | None:
        """Return what to know of bars that do not see what the build answers."""
        constant = constant_of(runner.get(self.way.verify)) if self.way.verify else None
        return blind(constant, chain.job.model.bars(chain.job.build)) if constant else None


def make(chain: Chain, runner: Runner) -> Made:
    """Run the stages of a build's ways until one meets the bars.

    Raises:
        SourceError: When the model or its samples are unusable.
        ParityError: When no way meets the bars: with what each missed.
        CompileError: When engines are wanted that this machine cannot make; nothing was begun then.
        LayoutError: When the models of its ensemble do not fit together; they have been exported at most then.
    """
    for way in chain.ways:
        for engine in way.engines.values():
            runner.require_ready(engine)
    if chain.wiring:
        runner.get(chain.wiring)
    missed: list[tuple[Way, ParityError | SourceError]] = []
    for way in chain.ways:
        try:
            parity = _judged(chain, way, runner)
        except (ParityError, SourceError) as error:
            # A model that the preferred way cannot make is wrong itself.
            if not missed and isinstance(error, SourceError):
                raise
            missed.append((way, error))
            continue
        made = _made(chain, way, runner, parity, tuple(_sentence(*item) for item in missed))
        return _engines_judged(chain, made, runner)
    error = _advised(chain, *missed[0], runner)
    if len(missed) == 1:
        raise error
    if error is missed[0][1]:
        *_, error = (found for _, found in missed if isinstance(found, ParityError))
    value = "; ".join(f"{way.name} INT8: {found.value or found.reason}" for way, found in missed)
    raise ParityError(error.where, error.reason, error.fix, value=value) from error


def runs(chain: Chain, runner: Runner) -> tuple[StageRun, ...]:
    """Return what became of each stage that was asked for, in the order of the chain."""
    found = (runner.done[key] for key in chain.stages() if key in runner.done)
    return tuple(StageRun(stage=done.stage, key=done.key, origin=done.origin, seconds=done.seconds) for done in found)


def records(chain: Chain, runner: Runner, missed: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Return what the stages did, in the order of the chain; the last `verify` says why other ways were given up.

    The sources of all models of the image are always among them, the build's own first, and so are their exports as far as this machine
    knows them: where later stages were there already, nobody asked for these, and yet the image is made of them.
    """
    stages = chain.stages()
    exports = {key: runner.kept(stage) for key, stage in stages.items() if stage.name == EXPORT and key not in runner.done}
    did = {key: done.record for key, done in runner.done.items()} | {key: kept for key, kept in exports.items() if kept}
    # Versions of one model have one source.
    sources: dict[str, Job] = {}
    for job in chain.jobs:
        sources.setdefault(job.source.key, job)
    found = [*(_source_record(job, runner) for job in sources.values()), *(did[key] for key in stages if key in did)]
    for index in range(len(found) - 1, -1, -1):
        if found[index].stage == "verify":
            found[index] = found[index].model_copy(update={"notes": (*missed, *found[index].notes)})
            break
    return tuple(found)


def _source_record(job: Job, runner: Runner) -> StageRecord:
    """Return what is known of a build's source; nothing is downloaded for it."""
    if job.source.key in runner.done or job.here:
        return runner.get(job.source).record
    return job.declared


def _judged(chain: Chain, way: Way, runner: Runner) -> Parity | None:
    if way.verify is None:
        return None
    parity = parity_of(runner.get(way.verify))
    judge(parity, chain.job.model.bars(chain.job.build), chain.job.build, chain.job.spec.precision, level=level_of(chain.job))
    for member in way.company:
        bars = member.job.model.bars(member.job.build)
        build, job = f"{member.job.model.name}:{member.job.build}", member.job
        judge(parity_of(runner.get(member.verify)), bars, build, job.spec.precision, level=level_of(job))
    return parity


def _advised(chain: Chain, way: Way, error: ParityError | SourceError, runner: Runner) -> ParityError | SourceError:
    """Return the error with the layers that are to blame, where it is about the bars of its own build and they can be found."""
    if way.losses is None or not isinstance(error, MissedError) or error.build != chain.job.build:
        return error
    # What hinders the search is no news: the bar is missed anyway.
    with suppress(ImageError):
        found = losses_of(runner.get(way.losses))
        return error.fixed(found.fix(chain.job.spec.keep_fp32, error.fix))
    return error


def _engines_judged(chain: Chain, made: Made, runner: Runner) -> Made:
    """Return what was made with the differences of its engines, as far as this machine can run them, or anybody ran them before.

    Raises:
        ParityError: When an engine misses a bar.
        CompileError: When its GPU is here, and it cannot be run all the same.
    """
    bars = chain.job.model.engine_bars(chain.job.build)
    ran: dict[str, Parity] = {}
    not_run: dict[str, str] = {}
    for architecture, measures in made.way.measures.items():
        refusal = runner.refusal(measures.verify)
        if refusal is not None:
            not_run[architecture] = refusal.reason
            continue
        ran[architecture] = parity_of(runner.get(measures.verify))
        build, job = f"{chain.job.build}, engine for {architecture}", chain.job
        judge(ran[architecture], bars, build, job.spec.precision, level=level_of(job), engine=True)
    return replace(made, engines=ran, not_run=not_run)


def _made(chain: Chain, way: Way, runner: Runner, parity: Parity | None, missed: tuple[str, ...]) -> Made:
    model = runner.get(way.model or chain.source)
    engines = tuple(runner.get(engine) for engine in way.engines.values())
    summary = Summary(
        model=chain.job.model.name,
        build=chain.job.build,
        key=chain.key,
        signature=signature_of(model) if way.model or chain.job.format == "onnx" else None,
        quantisation=way.name,
        parity=parity,
        architectures=tuple(way.engines),
    )
    return Made(way, summary, (engines or (model,))[0], missed)


def _sentence(way: Way, error: ParityError | SourceError) -> str:
    return f"{way.name} INT8 missed a bar: {error.value or error.reason}"
