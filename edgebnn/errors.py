"""The exception for user errors, and the way a command ends on it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgebnn.text import printable


class UserError(ValueError):
    """An error that the user can fix. The message is one line: the thing, the fault, the remedy."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Ends the process with code 2 and one line on stderr if the block raises a `UserError`.

    A closed output pipe ends it with code 141, and Ctrl-C with code 130.
    """
    try:
        yield
        # Writing the rest of the buffer can fail too, and then it must fail here.
        sys.stdout.flush()
    except UserError as error:
        # A message can contain text from a file or a device. Control characters in it would control the terminal.
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of the pipe has ended (`| head`). Python would report this again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def check(condition: object, message: Callable[[], str] | str) -> None:
    """Raises `UserError` with a message if a condition is false. A function as message is called only then."""
    if not condition:
        raise UserError(message if isinstance(message, str) else message())
