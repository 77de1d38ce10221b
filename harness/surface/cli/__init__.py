"""The command line: `harness VERB`. Each verb is imported when it is called."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import click

from harness.errors import HarnessError, StoreError
from harness.surface.words import clean, from_here

INTERRUPTED = 130
ANSWERED: ContextVar[bool] = ContextVar("answered", default=False)
"""Whether this command has printed its one JSON value: what goes wrong later is said beside it."""

VERBS = {
    "init": "Make a working task in this repository.",
    "data": "Look at data, then lint, split, convert, make and filter it.",
    "eval": "Run a task's evals for one or more candidates.",
    "ladder": "Make the tries that a task lacks, run them all, and show the ladder.",
    "wall": "Tell whether prompting has hit a wall.",
    "advise": "Answer: should we fine-tune?",
    "tune": "Fine-tune; refuses without a wall.",
    "compare": "Compare two candidates on dev, case by case; spends nothing.",
    "model": "Look after what is served.",
    "gate": "Decide a release on the sealed test split; counts the look.",
    "report": "Write the report of a task, one HTML file.",
    "runs": "List the recorded runs, or show one.",
    "plugins": "List plugins and what they offer.",
    "doctor": "Check this installation, the store and every task.",
}
"""Every verb with its summary, in the order of the loop; a test holds them to the docstrings."""


CALL_EVALS = {"eval", "ladder", "wall", "gate"}
"""Verbs that ask for replies and call evals, and that find what they did where they begin again."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the loop."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"harness.surface.cli.{cmd_name}_verb")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb; for a misspelt one, say which it may have been."""
        if args[0] in VERBS:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        if near := get_close_matches(args[0], VERBS, n=1):
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 yes, 1 no, 2 usage, 3 not enough evidence, 4 infrastructure, 130 Ctrl-C.",
)
@click.version_option(package_name="tuning-harness", prog_name="harness")
@click.option("--store", metavar="PATH", help="The store (default: .harness/harness.db).")
@click.pass_context
def group(ctx: click.Context, store: str | None) -> None:
    """Earn the fine-tune: evals, the prompt ladder, the wall, and the release gate."""
    ctx.obj = store


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if arguments is None:
        arguments = sys.argv[1:]
        if _verb(arguments) in CALL_EVALS and sys.platform == "linux":
            from harness.surface import parent

            parent.begin()
    code = run(arguments)
    if code == INTERRUPTED:
        _hear_no_more()
    sys.exit(code)


def _verb(arguments: list[str]) -> str | None:
    """Return the verb, which stands behind the options of the group."""
    words = iter(arguments)
    for word in words:
        if word == "--store":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; no traceback reaches a user's mistake."""
    ANSWERED.set(False)
    try:
        code: Any = group.main(args=arguments, prog_name="harness", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted(arguments)
    except click.ClickException as exc:
        exc.show()
        return _failed(exc.format_message(), "", code=exc.exit_code, arguments=arguments)
    except HarnessError as exc:
        said = from_here(str(exc))
        told = f"error: {clean(said)}"
        return _failed(said, told, code=exc.exit_code, arguments=arguments, beside=exc.beside)
    except OSError as exc:  # a full disk, a folder that may not be written
        said = from_here(str(exc))
        return _failed(
            said, f"error: {clean(said)}", code=StoreError.exit_code, arguments=arguments
        )
    except Exception as exc:
        if _is_of_an_interrupt(exc):
            return _interrupted(arguments)
        raise  # a bug of ours, with its traceback
    return code if isinstance(code, int) else 0


def _interrupted(arguments: list[str]) -> int:
    text = "interrupted; what was recorded is kept, and the same command goes on"
    heard = _hear_no_more()
    try:
        return _failed(text, text, code=INTERRUPTED, arguments=arguments)
    finally:
        if heard is not None:
            signal.signal(signal.SIGINT, heard)


def _hear_no_more() -> Any:
    """Let another Ctrl-C not break what is said of the first; return what it did until now."""
    with suppress(ValueError):  # not the main thread, which alone is told of signals
        return signal.signal(signal.SIGINT, signal.SIG_IGN)
    return None


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Tell what another Ctrl-C made of code that was closing down, as of a class half made."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _failed(
    error: str,
    text: str,
    *,
    code: int,
    arguments: list[str],
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    if "--json" in arguments and not ANSWERED.get():
        told: dict[str, Any] = {"error": error, "exit_code": code}
        if beside:
            from harness.records import to_plain  # `harness --help` needs no record

            told |= {name: to_plain(value) for name, value in beside.items()}
        click.echo(json.dumps(told))
    if text:
        click.echo(text, err=True)
    return code
