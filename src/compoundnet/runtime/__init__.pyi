from .backends.choices import Choice, TriedWay
from .backends.precisions import PRECISIONS, Way, runnable
from .backends.session import Session
from .batch_predictor import BatchPredictor
from .embedding import Embedder, Embedding, features
from .exports.accuracy_floor import AccuracyFloor
from .exports.export import Export, export
from .feature_files import FEATURE_FILES, Nearest, Neighbour, feature_file, find_neighbours, read_features
from .predict import UNKNOWN_LABEL, ClassProbability, Failure, Prediction, Predictor
from .prediction_parts import ShardCounts, predict_shards
from .prediction_tables import PredictionCounts, write_predictions
from .sessions import session
from .timing.benchmark import Benchmark, benchmark
from .timing.latency_bound import TimedPlan, plan_within, time_plan
from .timing.latency_fit import fit_latency
from .timing.latency_plots import write_benchmark
from .timing.rounds import Latency
from .timing.throughput import throughput

__all__ = [
    "FEATURE_FILES",
    "PRECISIONS",
    "UNKNOWN_LABEL",
    "AccuracyFloor",
    "BatchPredictor",
    "Benchmark",
    "Choice",
    "ClassProbability",
    "Embedder",
    "Embedding",
    "Export",
    "Failure",
    "Latency",
    "Nearest",
    "Neighbour",
    "Prediction",
    "PredictionCounts",
    "Predictor",
    "Session",
    "ShardCounts",
    "TimedPlan",
    "TriedWay",
    "Way",
    "benchmark",
    "export",
    "feature_file",
    "features",
    "find_neighbours",
    "fit_latency",
    "plan_within",
    "predict_shards",
    "read_features",
    "runnable",
    "session",
    "throughput",
    "time_plan",
    "write_benchmark",
    "write_predictions",
]
