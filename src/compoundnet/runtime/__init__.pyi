from .benchmark import Benchmark, benchmark
from .exported import Exported, open_any, open_exported
from .exporting import Export, export
from .latency_bound import TimedPlan, plan_within
from .latency_fit import fit_latency
from .predict import ClassProbability, Failure, Prediction, Predictor
from .sessions import Session, session

__all__ = [
    "Benchmark",
    "ClassProbability",
    "Export",
    "Exported",
    "Failure",
    "Prediction",
    "Predictor",
    "Session",
    "TimedPlan",
    "benchmark",
    "export",
    "fit_latency",
    "open_any",
    "open_exported",
    "plan_within",
    "session",
]
