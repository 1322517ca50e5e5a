"""Lets `python -m difface_diffusers.cli`, and so `accelerate launch -m`, run the command line."""

import sys

from .main import main


sys.exit(main())
