"""Daemons: started detached, found again by process id and start time, stopped for certain."""

import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve_embedded.cluster import cgroups
from gpuserve_embedded.cluster.errors import ClusterError
from gpuserve_embedded.cluster.layout import LOGS, PIDS

_LOG_TAIL_LINES = 15
_STOP_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Daemon:
    """A long-running program of the cluster.

    Attributes:
        name: names its log, its process file and its control group.
        command: program and arguments.
        is_healthy: says whether it serves; called repeatedly while it starts.
        timeout_seconds: how long it may take to become healthy. The default is what kubeadm gives a control plane: a slow machine
            needs more than a minute, and a daemon that ends is noticed at once.
    """

    name: str
    command: Sequence[str | Path]
    is_healthy: Callable[[], bool]
    timeout_seconds: float = 240.0

    @property
    def log(self) -> Path:
        """Where its standard output and error go."""
        return LOGS / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Holds its process id, its start time and the boot that both belong to."""
        return PIDS / self.name


def start(daemon: Daemon) -> None:
    """Start a daemon in a session and control group of its own, unless it runs already; does not wait for its health."""
    if pid_of(daemon) is not None:
        return
    procs = cgroups.create_for(daemon.name)
    for folder in (LOGS, PIDS):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": search_path(), "HOME": str(Path.home())}
    # The shell enters the control group before it becomes the daemon, so that no moment exists in which a killed
    # start leaves a process that nobody can find.
    enter = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(procs), *map(str, daemon.command)]
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(
            enter, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True
        )
    daemon.pid_file.write_text(f"{process.pid} {start_time(process.pid)} {boot_id()}\n")


def wait_healthy(daemon: Daemon) -> None:
    """Wait until a started daemon serves.

    Raises:
        ClusterError: it ended, or was not healthy within its time; with the last lines of its log.
    """
    deadline = time.monotonic() + daemon.timeout_seconds
    while True:
        if pid_of(daemon) is None:
            raise _failure(daemon, "it ended right after it was started")
        if daemon.is_healthy():
            return
        if time.monotonic() > deadline:
            raise _failure(daemon, f"it was not healthy within {daemon.timeout_seconds:g} s")
        time.sleep(_POLL_SECONDS)


def stop(daemon_name: str) -> None:
    """End the daemon of that name, gently first; nothing happens where it does not run."""
    pid_file = PIDS / daemon_name
    pid = _running_pid(pid_file)
    if pid is not None:
        _end(pid, pid_file)
    pid_file.unlink(missing_ok=True)


def pid_of(daemon: Daemon) -> int | None:
    """Return the process id of a running daemon; None where it does not run."""
    return _running_pid(daemon.pid_file)


def url_answers(url: str, *, ca: Path | None = None, certificate: tuple[Path, Path] | None = None) -> Callable[[], bool]:
    """Return a health check: does a GET of the address answer with a 2xx status within five seconds?"""

    def check() -> bool:
        context = None
        with suppress(OSError, urllib.error.URLError, ValueError):
            if url.startswith("https:"):
                context = ssl.create_default_context(cafile=ca)
                if certificate:
                    context.load_cert_chain(*certificate)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}),  # a proxy for the internet knows nothing of this machine's addresses
                urllib.request.HTTPSHandler(context=context),
            )
            with opener.open(url, timeout=5) as response:
                return 200 <= int(response.status) < 300  # noqa: PLR2004 - the range of HTTP success
        return False

    return check


def run(step: str, command: Sequence[str | Path], *, fix: str, stdin: str | None = None) -> str:
    """Run a short command to its end and return its output.

    Raises:
        ClusterError: it is not installed, or its exit status is not 0.
    """
    program = shutil.which(str(command[0]), path=search_path())
    if program is None:
        raise ClusterError(step, command[0], "the program is not installed", fix)
    done = subprocess.run(
        [program, *map(str, command[1:])],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": search_path()},
    )
    if done.returncode != 0:
        raise ClusterError(
            step,
            " ".join(map(str, command)),
            f"exit status {done.returncode}",
            fix,
            log=(done.stderr or done.stdout).splitlines()[-_LOG_TAIL_LINES:],
        )
    return done.stdout


def search_path() -> str:
    """Return where programs are looked for: ``PATH``, and the administrator's folders that a plain ``su`` leaves out."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def tail(log: Path) -> list[str]:
    """Return the last lines of a log; empty where there is none."""
    with suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return []


def boot_id() -> str:
    """Return the id of this boot: process ids and kernel settings of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _running_pid(pid_file: Path) -> int | None:
    with suppress(OSError, ValueError):
        pid, started, boot = pid_file.read_text().split()
        if boot == boot_id() and start_time(int(pid)) == started:
            return int(pid)
    return None


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot (proc(5), field 22); None where it does not run."""
    with suppress(OSError):
        # The second field is the command in parentheses and may hold spaces, so count from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else fields[19]
    return None


def _end(pid: int, pid_file: Path) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, kind)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if _running_pid(pid_file) is None:
                return
            time.sleep(_POLL_SECONDS / 2)


def _failure(daemon: Daemon, reason: str) -> ClusterError:
    return ClusterError(
        f"start {daemon.name}",
        daemon.command[0],
        reason,
        f"see {daemon.log}, mend what it says and run the same command again: it cleans up and starts anew",
        log=tail(daemon.log),
    )
