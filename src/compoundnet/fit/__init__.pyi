from .candidates import Candidate, Limits, find_candidates, models_at_hand
from .finding import fit
from .report import write_fit_report
from .screen import Screened
from .state import FIT_FILE, Answer, Fit, fit_folder, read_fit

__all__ = [
    "FIT_FILE",
    "Answer",
    "Candidate",
    "Fit",
    "Limits",
    "Screened",
    "find_candidates",
    "fit",
    "fit_folder",
    "models_at_hand",
    "read_fit",
    "write_fit_report",
]
