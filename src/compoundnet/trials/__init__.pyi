from .database import StudyDatabase
from .estimate import estimate
from .measurement import TrainingJob, TrialOutcome, measure
from .network_judge import NetworkJudge, NetworkSearch
from .settings import PointList, Settings
from .studies import OpenedStudy, check_folder, create_study, is_begun, open_study
from .worker import Judge, work

__all__ = [
    "Judge",
    "NetworkJudge",
    "NetworkSearch",
    "OpenedStudy",
    "PointList",
    "Settings",
    "StudyDatabase",
    "TrainingJob",
    "TrialOutcome",
    "check_folder",
    "create_study",
    "estimate",
    "is_begun",
    "measure",
    "open_study",
    "work",
]
