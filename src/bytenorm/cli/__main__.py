"""``python -m bytenorm.cli``."""

import sys

from . import main

sys.exit(main())
