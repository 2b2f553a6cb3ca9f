from .blocks import UIB, BasicBlock, Block, BlockShape, Bottleneck, ConvBlock, FusedMBConv, MBConv, SeparableConv
from .budget import DIMENSIONS, LargestNetwork, Plan, plan
from .catalogue import canonical, families, network, networks
from .costs import Cost, StageCost, cost, stage_costs
from .latency import LatencyModel
from .layers import Layer
from .memory import inference_memory, training_memory
from .scaling import scale
from .scaling_rules import (
    WIDTH_SHARE,
    CoefficientRule,
    Coefficients,
    FoundCoefficients,
    ScalingRule,
    TinyRule,
    compound,
    fast_scaling,
    find_rule,
    known_rules,
    own_rule,
    scale_by,
)
from .segments import unroll
from .spec import Head, Network, Norm, Rules, Scaling, Stage, Stem

__all__ = [
    "DIMENSIONS",
    "UIB",
    "WIDTH_SHARE",
    "BasicBlock",
    "Block",
    "BlockShape",
    "Bottleneck",
    "CoefficientRule",
    "Coefficients",
    "ConvBlock",
    "Cost",
    "FoundCoefficients",
    "FusedMBConv",
    "Head",
    "LargestNetwork",
    "LatencyModel",
    "Layer",
    "MBConv",
    "Network",
    "Norm",
    "Plan",
    "Rules",
    "Scaling",
    "ScalingRule",
    "SeparableConv",
    "Stage",
    "StageCost",
    "Stem",
    "TinyRule",
    "canonical",
    "compound",
    "cost",
    "families",
    "fast_scaling",
    "find_rule",
    "inference_memory",
    "known_rules",
    "network",
    "networks",
    "own_rule",
    "plan",
    "scale",
    "scale_by",
    "stage_costs",
    "training_memory",
    "unroll",
]
