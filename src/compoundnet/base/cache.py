"""Where this program keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the cache folder: $COMPOUNDNET_CACHE, or the platform's own (~/.cache/compoundnet on Linux).

    It may not exist yet.
    """
    own = os.environ.get("COMPOUNDNET_CACHE")
    return Path(own).expanduser() if own else platformdirs.user_cache_path("compoundnet", appauthor=False)
