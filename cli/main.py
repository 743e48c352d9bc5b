"""Entry point of the program: runs a command and reports errors of the package in one line."""

import typer

from ecgtransfer.errors import EcgTransferError

#: Exit code after Ctrl-C, by the convention of shells: 128 + SIGINT.
INTERRUPTED = 130


def main() -> None:
    """Run the command; an `EcgTransferError` becomes one line and exit code 1.

    Other exceptions are bugs and keep their traceback.
    """
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
