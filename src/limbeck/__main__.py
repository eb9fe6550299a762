"""``python -m limbeck``."""

import sys

from limbeck import warm

status = warm.hand_over(sys.argv[1:])
if status is not None:
    sys.exit(status)

from limbeck.cli import main  # noqa: E402  # takes longer than all of the above

main()
