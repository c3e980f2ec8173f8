"""The other methods of the paper's Table 1, by the part of an architecture's name in front of its backbone's."""

from __future__ import annotations

from kdna_deploy.network.families.a2d2c import A2D2Convolutions
from kdna_deploy.network.families.cbam import CBAMGates
from kdna_deploy.network.families.cgc import CGCConvolutions
from kdna_deploy.network.families.condconv import CondConvolutions
from kdna_deploy.network.families.dcd import DCDConvolutions
from kdna_deploy.network.families.dyconv import DYConvolutions
from kdna_deploy.network.families.eca import ECAGates
from kdna_deploy.network.families.fdconv import FDConvolutions
from kdna_deploy.network.families.odconv import ODConvolutions
from kdna_deploy.network.families.se import SEGates
from kdna_deploy.network.method import Method

MOBILENET_V2: dict[str, Method] = {
    "od4x": ODConvolutions(),
    "od1x": ODConvolutions(1),
    "dy": DYConvolutions(),
    "a2d2c": A2D2Convolutions(),
    "a2d2c_input": A2D2Convolutions("input"),
}
RESNET50: dict[str, Method] = {
    **MOBILENET_V2,
    "se": SEGates(),
    "cbam": CBAMGates(),
    "eca": ECAGates(),
    "cgc": CGCConvolutions(),
    "dcd": DCDConvolutions(),
    "fd": FDConvolutions(),
}
RESNET18: dict[str, Method] = {**RESNET50, "cond": CondConvolutions()}
