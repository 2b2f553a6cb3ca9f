from .judging import NetworkJudge, NetworkSearch
from .measuring import TrainingJob, TrialOutcome, measure
from .settings import PointList, Settings
from .studies import OpenedStudy, create_study, open_study
from .worker import Judge, work

__all__ = [
    "Judge",
    "NetworkJudge",
    "NetworkSearch",
    "OpenedStudy",
    "PointList",
    "Settings",
    "TrainingJob",
    "TrialOutcome",
    "create_study",
    "measure",
    "open_study",
    "work",
]
