"""Run a Pulumi program in this interpreter: the language host starts this file with the project's own Python.

So it imports nothing of the language host's, and nothing but Pulumi's SDK beside the standard library.
"""

import argparse
import asyncio
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

if sys.path and os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120 - before any other import
    del sys.path[0]  # the language host's own modules are nothing to a program

try:
    import pulumi
    from pulumi import runtime
except ImportError:
    traceback.print_exc()
    sys.stderr.write("Pulumi's Python SDK is not installed in this environment: run 'pulumi install'.\n")
    sys.exit(1)

# The language host takes this status for "the user has been told".
_ALREADY_TOLD = 32
_INTERRUPTED = 130
# What the SDK's own runner uses: operations wait on the engine, so they need more threads than run at once.
_THREADS_PER_OPERATION = 4


def main() -> int:
    """Run the program that the arguments name, and return the exit status."""
    arguments = _parser().parse_args()
    runtime.set_all_config(runtime.get_config_env(), runtime.get_config_secret_keys_env())
    runtime.configure(
        runtime.Settings(
            monitor=arguments.monitor,
            engine=arguments.engine,
            project=arguments.project,
            stack=arguments.stack,
            parallel=arguments.parallel,
            dry_run=arguments.dry_run,
            organization=arguments.organization,
            root_directory=arguments.root_directory,
        )
    )
    sys.argv = [arguments.program, *arguments.arguments]
    if arguments.pwd:
        os.chdir(arguments.pwd)
    # A program that fails leaves awaited things unawaited; asyncio's complaints about that would bury the error.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with ThreadPoolExecutor(max(arguments.parallel, 1) * _THREADS_PER_OPERATION) as threads:
            loop.set_default_executor(threads)
            return _run(loop, arguments.program)
    finally:
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, program: str) -> int:
    def start() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(runtime.run_in_stack(start))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever a user's program raises is shown to the user
        pulumi.log.error("Program failed with an unhandled exception:\n" + _traceback(error, program))
        return _ALREADY_TOLD
    return 0


def _traceback(error: Exception, program: str) -> str:
    """The error's traceback from the user's first frame on: what lies before it is Pulumi's and this file's."""
    home = os.path.abspath(program)  # noqa: PTH100 - the interpreter may be older than what this project asks for
    frames = traceback.extract_tb(error.__traceback__)
    for index, frame in enumerate(frames):
        if os.path.abspath(frame.filename) in (home, os.path.join(home, "__main__.py")):  # noqa: PTH100, PTH118 - as above
            return "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=index - len(frames)))
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a Pulumi program", allow_abbrev=False)
    for name in ("monitor", "engine", "project", "root-directory", "stack", "pwd", "organization"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
