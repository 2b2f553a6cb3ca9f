"""The ground floor: errors, whole-file writing, units, plain values, the machine, the cache's place, progress.

`base.machine` and `base.cache` are imported by their own names: `arch` needs the standard library and msgspec only.
"""

from compoundnet.base.errors import CompoundNetError, did_you_mean, first_line
from compoundnet.base.files import (
    UnwritableError,
    check_folder_of,
    make_folder,
    remove_scratch,
    scratch_folder,
    whole_file,
    whole_folder,
    write_errors,
    write_whole,
)
from compoundnet.base.progress import Notify, Progress, ignore
from compoundnet.base.toml import decode_toml, read_toml
from compoundnet.base.units import format_bytes, format_count, parse_bytes, parse_count, parse_duration
from compoundnet.base.values import check, plain_values

__all__ = [
    "CompoundNetError",
    "Notify",
    "Progress",
    "UnwritableError",
    "check",
    "check_folder_of",
    "decode_toml",
    "did_you_mean",
    "first_line",
    "format_bytes",
    "format_count",
    "ignore",
    "make_folder",
    "parse_bytes",
    "parse_count",
    "parse_duration",
    "plain_values",
    "read_toml",
    "remove_scratch",
    "scratch_folder",
    "whole_file",
    "whole_folder",
    "write_errors",
    "write_whole",
]
