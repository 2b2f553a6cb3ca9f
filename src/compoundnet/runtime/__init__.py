"""Running models: on pictures, as sessions of several backends, and as files for other runtimes."""

from compoundnet.runtime.benchmark import Benchmark, benchmark
from compoundnet.runtime.exported import Exported, open_any, open_exported
from compoundnet.runtime.exporting import Export, export
from compoundnet.runtime.latency_bound import TimedPlan, plan_within
from compoundnet.runtime.latency_fit import fit_latency
from compoundnet.runtime.predict import ClassProbability, Failure, Prediction, Predictor
from compoundnet.runtime.sessions import Session, session

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
