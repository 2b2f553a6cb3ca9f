from .backends.session import Session
from .exports.export import Export, export
from .predict import ClassProbability, Failure, Prediction, Predictor
from .sessions import session
from .timing.benchmark import Benchmark, benchmark
from .timing.latency_bound import TimedPlan, plan_within
from .timing.latency_fit import fit_latency
from .timing.latency_plots import write_benchmark

__all__ = [
    "Benchmark",
    "ClassProbability",
    "Export",
    "Failure",
    "Prediction",
    "Predictor",
    "Session",
    "TimedPlan",
    "benchmark",
    "export",
    "fit_latency",
    "plan_within",
    "session",
    "write_benchmark",
]
