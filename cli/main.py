"""The program: runs a command, and is the one border where our own errors become a line."""

import typer

from ecgtransfer.errors import EcgTransferError

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130


def main() -> None:
    """Run the command; our errors become one line and exit code 1, a bug keeps its traceback."""
    # Worker processes import this module again, and need none of the commands.
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
                "interrupted: what is finished is kept, the same command goes on from there",
                err=True,
            )
        raise


if __name__ == "__main__":
    main()
