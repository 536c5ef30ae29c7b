"""Commands. They parse, call, and print; decisions live below."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of `draftsmith`: errors become one message, a next step and an exit code."""
    from draftsmith.cli.app import app
    from draftsmith.cli.output import fail
    from draftsmith.contract.errors import DraftsmithError, RunInterruptedError

    try:
        app()
    except DraftsmithError as error:
        fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(RunInterruptedError.exit_code)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
