from .backends.session import Session
from .exports.export import Export, export
from .predict import UNKNOWN_LABEL, ClassProbability, Failure, Prediction, Predictor
from .prediction_tables import PredictionCounts, write_predictions
from .sessions import session
from .timing.benchmark import Benchmark, benchmark
from .timing.latency_bound import TimedPlan, plan_within, time_plan
from .timing.latency_fit import fit_latency
from .timing.latency_plots import write_benchmark
from .timing.rounds import Latency

__all__ = [
    "UNKNOWN_LABEL",
    "Benchmark",
    "ClassProbability",
    "Export",
    "Failure",
    "Latency",
    "Prediction",
    "PredictionCounts",
    "Predictor",
    "Session",
    "TimedPlan",
    "benchmark",
    "export",
    "fit_latency",
    "plan_within",
    "session",
    "time_plan",
    "write_benchmark",
    "write_predictions",
]
