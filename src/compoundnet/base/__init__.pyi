from .errors import CompoundNetError, did_you_mean, first_line
from .extras import MissingLibraryError, need
from .files import (
    UnwritableError,
    check_output_file,
    followed,
    make_folder,
    remove_all_scratch,
    remove_scratch,
    replace_together,
    scratch_folder,
    whole_file,
    whole_folder,
    write_errors,
    write_whole,
)
from .inputs import check_file, instead_of_file, irregular, problem_with, read_file
from .progress import Notify, Progress, ignore
from .units import format_bytes, format_count, parse_bytes, parse_count, parse_duration
from .values import TomlStruct, check, decode_toml, json_document, plain_values, read_toml

__all__ = [
    "CompoundNetError",
    "MissingLibraryError",
    "Notify",
    "Progress",
    "TomlStruct",
    "UnwritableError",
    "check",
    "check_file",
    "check_output_file",
    "decode_toml",
    "did_you_mean",
    "first_line",
    "followed",
    "format_bytes",
    "format_count",
    "ignore",
    "instead_of_file",
    "irregular",
    "json_document",
    "make_folder",
    "need",
    "parse_bytes",
    "parse_count",
    "parse_duration",
    "plain_values",
    "problem_with",
    "read_file",
    "read_toml",
    "remove_all_scratch",
    "remove_scratch",
    "replace_together",
    "scratch_folder",
    "whole_file",
    "whole_folder",
    "write_errors",
    "write_whole",
]
