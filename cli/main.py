"""Entry point of the program: runs a command and reports errors of the package in one line."""

import os

import typer

from ecgtransfer.errors import EcgTransferError

#: Threads of torch that wait for each other sleep instead of spinning, which costs the other
#: programs of a busy machine their time (benchmarks/threads.py). torch reads it on import.
WAITING = ("OMP_WAIT_POLICY", "passive")
#: Exit code after Ctrl-C, by the convention of shells: 128 + SIGINT.
INTERRUPTED = 130


def main() -> None:
    """Run the command; an `EcgTransferError` becomes one line and exit code 1.

    Other exceptions are bugs and keep their traceback.
    """
    os.environ.setdefault(*WAITING)
    # Worker processes import this module too, but need no commands.
    from .app import app

    try:
        app(prog_name="ecgtransfer")
    except EcgTransferError as error:
        sentence = " ".join(str(error).split())
        typer.secho(f"error: {sentence}", fg="red", err=True)
        raise SystemExit(1) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.secho(
                "interrupted: finished work is kept; run the same command again to resume",
                err=True,
            )
        raise


if __name__ == "__main__":
    main()
