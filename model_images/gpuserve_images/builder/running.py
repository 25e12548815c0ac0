"""Running a build's Job to its end: started or joined, watched, and taken away."""

import time
from collections.abc import Callable

from gpuserve_images.builder import diagnosis
from gpuserve_images.builder.cluster import BuildCluster, Object, UnreachableError
from gpuserve_images.builder.errors import JobError
from gpuserve_images.builder.logs import Follower
from gpuserve_images.builder.manifests import BuildJob, job_manifest

Report = Callable[[str], None]

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
"""An API server that restarts is back by then."""

_GOING_SECONDS = 60.0
_SETTLING_SECONDS = 5.0
"""A quota that was raised a moment ago counts after a second or two, and the Job controller tries again after one, two and four."""


def run(
    job: BuildJob,
    cluster: BuildCluster,
    report: Report,
    *,
    wanted: Callable[[], bool] = lambda: True,
    look: float = _LOOK_SECONDS,
) -> None:
    """Run a build in the cluster until it is done.

    A Job of the same content that is at work already is joined. A Job that is done is removed; one that failed stays for ten minutes,
    so that its log can be read, and the next run takes its place.

    Args:
        job: The build.
        cluster: Where.
        report: Told each line of its log, and what it waits for.
        wanted: Asked again and again whether anybody still waits for the build: when nobody does, it is removed.
        look: Seconds between two looks at the cluster.

    Raises:
        JobError: When it cannot start, or did not end well.
        BuildRefusedError: With the build's own message, when the build itself failed.
    """
    _start(job, cluster, report)
    _Watch(job, cluster, report, wanted, look).run()


def _start(job: BuildJob, cluster: BuildCluster, report: Report) -> None:
    manifest = job_manifest(job)
    deadline = time.monotonic() + _GOING_SECONDS
    while not cluster.create(manifest):
        there = cluster.job(job.namespace, job.name)
        if there is None:
            continue
        going = "deletionTimestamp" in there["metadata"]
        if not going and diagnosis.finished(there) is None:
            report(
                f"joining Job {job.namespace}/{job.name}, which builds the same since {there['metadata'].get('creationTimestamp')}"
            )
            return
        if not going:
            cluster.delete(job.namespace, job.name)
        if time.monotonic() > deadline:
            reason = "an earlier one of that name does not go away"
            raise JobError(f"Job {job.namespace}/{job.name}", reason, "See what holds it: kubectl describe job.")
        time.sleep(_LOOK_SECONDS / 4)
    report(f"building in Job {job.namespace}/{job.name}")


class _Watch:
    """One Job being watched."""

    def __init__(self, job: BuildJob, cluster: BuildCluster, report: Report, wanted: Callable[[], bool], look: float) -> None:
        self._job = job
        self._cluster = cluster
        self._report = report
        self._wanted = wanted
        self._look = look
        self._followers: dict[str, Follower] = {}
        self._said = ""
        self._over = False
        self._idle_since = time.monotonic()
        self._answered = time.monotonic()

    def run(self) -> None:
        try:
            while not self._step():
                time.sleep(self._look)
        except BaseException:
            # Whatever ended the waiting, a Job that nobody waits for would only use up a node. One that failed does not.
            if not self._over:
                self._stop()
            raise

    def _step(self) -> bool:
        """Look once; True when the build is done."""
        if not self._wanted():
            raise JobError(self._where, "nobody waits for it any more, so it was removed", "Run `pulumi up` again.")
        try:
            return self._looked()
        except UnreachableError as error:
            if time.monotonic() - self._answered > _PATIENCE_SECONDS:
                raise
            self._say(str(error))
            return False

    def _looked(self) -> bool:
        status = self._cluster.job(self._job.namespace, self._job.name)
        pods = self._cluster.pods(self._job.namespace, self._job.name)
        self._answered = time.monotonic()
        if status is None:
            self._finish()
            return True
        self._follow(pods)
        end = diagnosis.finished(status)
        if end == "Complete":
            self._finish()
            self._cluster.delete(self._job.namespace, self._job.name)
            return True
        if end == "Failed":
            self._finish()
            # Of the last pod, which the deadline has deleted.
            last = list(self._followers.values())[-1:]
            self._over = True
            raise diagnosis.failure(self._job, status, pods, [line for follower in last for line in follower.last])
        self._judge(pods)
        return False

    def _judge(self, pods: list[Object]) -> None:
        """Say what it waits for; give up when that is for nothing, or takes too long."""
        newest = pods[-1] if pods else None
        if newest is not None and diagnosis.started(newest):
            self._idle_since = time.monotonic()
        about = newest["metadata"]["name"] if newest is not None else self._job.name
        running = newest is not None and diagnosis.started(newest)
        # What keeps a claim without a volume is said about the claim.
        named = () if running else (about, *self._job.claims)
        events = [event for name in named for event in self._cluster.events(self._job.namespace, name)]
        if newest is not None and (error := diagnosis.hopeless(self._job, newest, events)):
            raise error
        wait = diagnosis.waiting_for(self._job, pods, events)
        if wait is None:
            return
        self._say(f"waiting: {wait.reason}")
        waited = time.monotonic() - self._idle_since
        if waited > self._job.spec.start_within.seconds:
            raise JobError(self._where, f"did not start within {self._job.spec.start_within}: {wait.reason}", wait.fix)
        if waited > _SETTLING_SECONDS and not wait.passes:
            raise JobError(self._where, wait.reason, wait.fix)

    def _follow(self, pods: list[Object]) -> None:
        for pod in pods:
            name = pod["metadata"]["name"]
            if name in self._followers or not diagnosis.started(pod):
                continue
            # Pods that were deleted are in no list any more, so those that were seen are counted.
            attempt = len(self._followers) + 1
            if attempt > 1:
                self._report(f"attempt {attempt}: pod {name}; finished stages are taken from the registry")
            self._followers[name] = Follower(self._cluster, self._job.namespace, name, self._report)

    def _finish(self) -> None:
        for follower in self._followers.values():
            follower.end()
        for follower in self._followers.values():
            follower.join()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._report(text)
            self._said = text

    def _stop(self) -> None:
        self._cluster.delete(self._job.namespace, self._job.name)
        self._finish()

    @property
    def _where(self) -> str:
        return f"Job {self._job.namespace}/{self._job.name}"
