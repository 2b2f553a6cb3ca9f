from .candidates import Candidate, find_candidates, models_at_hand
from .earlier import is_begun
from .finding import fit, join_fit
from .limits import DeviceProfile, Limits, read_device
from .report import write_fit_report
from .screen import Screened
from .state import FIT_FILE, Answer, Fit, HeldOut, Rung, WrongImage, fit_folder, read_fit

__all__ = [
    "FIT_FILE",
    "Answer",
    "Candidate",
    "DeviceProfile",
    "Fit",
    "HeldOut",
    "Limits",
    "Rung",
    "Screened",
    "WrongImage",
    "find_candidates",
    "fit",
    "fit_folder",
    "is_begun",
    "join_fit",
    "models_at_hand",
    "read_device",
    "read_fit",
    "write_fit_report",
]
