"""`gpuserve` as it is typed, run in this process."""

from typer.testing import CliRunner, Result

from gpuserve.cli.main import app


def run(*arguments: object, fails: bool = False) -> Result:
    """Run a command that ends as expected, and never in a traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) is fails, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result


def run_compile(*arguments: object, fails: bool = False) -> str:
    """Run `gpuserve compile`, and return what it says on one line."""
    return " ".join(run("compile", *arguments, fails=fails).output.split())
