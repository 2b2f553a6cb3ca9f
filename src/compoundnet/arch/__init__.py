"""Networks as data, and the paper's method as functions on them. Imports msgspec and the standard library only."""

from compoundnet.arch.blocks import (
    BasicBlock,
    Block,
    BlockShape,
    Bottleneck,
    ConvBlock,
    FusedMBConv,
    MBConv,
    SeparableConv,
)
from compoundnet.arch.budget import Alternative, Plan, plan
from compoundnet.arch.catalogue import canonical, families, network, networks
from compoundnet.arch.costs import Cost, StageCost, cost, stage_costs
from compoundnet.arch.latency import LatencyModel
from compoundnet.arch.layers import Layer
from compoundnet.arch.memory import inference_memory, training_memory
from compoundnet.arch.scaling import Coefficients, FoundCoefficients, compound, scale
from compoundnet.arch.segments import unroll
from compoundnet.arch.spec import Head, Network, Norm, Rules, Scaling, Stage, Stem

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
