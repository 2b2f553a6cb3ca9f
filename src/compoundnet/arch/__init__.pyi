from .blocks import BasicBlock, Block, BlockShape, Bottleneck, ConvBlock, FusedMBConv, MBConv, SeparableConv
from .budget import Alternative, Plan, plan
from .catalogue import canonical, families, network, networks
from .costs import Cost, StageCost, cost, stage_costs
from .latency import LatencyModel
from .layers import Layer
from .memory import inference_memory, training_memory
from .scaling import Coefficients, FoundCoefficients, compound, scale
from .segments import unroll
from .spec import Head, Network, Norm, Rules, Scaling, Stage, Stem

__all__ = [
    "Alternative",
    "BasicBlock",
    "Block",
    "BlockShape",
    "Bottleneck",
    "Coefficients",
    "ConvBlock",
    "Cost",
    "FoundCoefficients",
    "FusedMBConv",
    "Head",
    "LatencyModel",
    "Layer",
    "MBConv",
    "Network",
    "Norm",
    "Plan",
    "Rules",
    "Scaling",
    "SeparableConv",
    "Stage",
    "StageCost",
    "Stem",
    "canonical",
    "compound",
    "cost",
    "families",
    "inference_memory",
    "network",
    "networks",
    "plan",
    "scale",
    "stage_costs",
    "training_memory",
    "unroll",
]
