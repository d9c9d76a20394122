"""``python -m stepforge``: the command line."""

from stepforge.cli import main

raise SystemExit(main())
