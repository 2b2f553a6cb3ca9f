from .evaluation.calibration import Calibration, TemperatureFit, fit_label_temperature, fit_temperature
from .evaluation.evaluate import Evaluation, evaluate
from .evaluation.multi_label import MultiLabelReport
from .evaluation.single_label import ClassScore, SingleLabelReport
from .evaluation.tune import Tuned, tune
from .hardware import Hardware, launch, starts_as_first
from .interruptions import InterruptedRunError
from .logistic import Probe, fit_probe
from .overrides import override
from .recipe import Recipe, find_recipe, recipes
from .results import LabelResult, Result
from .run import Outcome, train
from .several_labels import LabelCrossEntropy, LabelScore, ThresholdFit
from .status import Epoch, Watcher
from .task import Task, plan_task

__all__ = [
    "Calibration",
    "ClassScore",
    "Epoch",
    "Evaluation",
    "Hardware",
    "InterruptedRunError",
    "LabelCrossEntropy",
    "LabelResult",
    "LabelScore",
    "MultiLabelReport",
    "Outcome",
    "Probe",
    "Recipe",
    "Result",
    "SingleLabelReport",
    "Task",
    "TemperatureFit",
    "ThresholdFit",
    "Tuned",
    "Watcher",
    "evaluate",
    "find_recipe",
    "fit_label_temperature",
    "fit_probe",
    "fit_temperature",
    "launch",
    "override",
    "plan_task",
    "recipes",
    "starts_as_first",
    "train",
    "tune",
]
