"""The one exception a user is meant to read, and how a command ends on it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgebnn.text import printable


class UserError(ValueError):
    """Something the user can mend. The message is one line: the thing, then the remedy."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Ends the process with code 2 and one line on stderr when a `UserError` reaches it."""
    try:
        yield
        # What is still in the buffer may fail as well, and should fail here.
        sys.stdout.flush()
    except UserError as error:
        # A message may hold what a file or a device says, and a terminal obeys what it is shown.
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def check(condition: object, message: Callable[[], str] | str) -> None:
    """Raises `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message if isinstance(message, str) else message())
