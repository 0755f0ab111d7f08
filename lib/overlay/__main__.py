"""``python -m lib.overlay PATCH [PATCH ...] -- COMMAND [ARGUMENT ...]``."""

import sys

from lib.errors import CollectionError
from lib.overlay import run


def main(words):
    """Run patches and a command, ``--`` between them; SystemExit with its status, or the reason."""
    cut = words.index("--") if "--" in words else len(words)
    names, command = words[:cut], words[cut + 1:]
    if not names or not command:
        sys.exit(f"usage: {__doc__.strip('`.')}")
    try:
        sys.exit(run(command, *names))
    except CollectionError as error:
        sys.exit(f"overlay: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
