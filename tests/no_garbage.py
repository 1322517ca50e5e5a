"""Imported before the modules that forks share: the search for garbage would take a fifth of their import's time."""

import gc


gc.disable()
