"""The methods of the paper's Table 1: their networks, what is printed of them, and which figures cannot be met.

    METHODS    word of ``--methods`` → architecture → row of the table, in its order
    REMARKS    architecture → why a printed figure is not met, or cannot be right

A²D²C is no row of the table: it is measured where it is named. Its own paper is for other images, or has counts that
contradict each other, so that nothing is printed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdna_deploy.benchmark.paper import TABLE1, Printed
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.families import ARCHITECTURES

_KERNELDNA = {name: row for name, row in TABLE1.items() if not name.endswith("_plain")}
_BACKBONES = ("resnet18", "resnet50", "mobilenetv2_100", "mobilenetv2_050")

METHODS: dict[str, dict[str, Printed | None]] = {
    "se": {"se_resnet18": Printed(11.78, 1.82, 8319, 23.68)},
    "cbam": {"cbam_resnet18": Printed(11.78, 1.82, 6023, 25.25)},
    "eca": {"eca_resnet18": Printed(11.69, 1.82, 8372, 23.54)},
    "cgc": {"cgc_resnet18": Printed(11.69, 2.19, 1537, 78.92)},
    "dcd": {"dcd_resnet18": Printed(14.70, 1.90, 5305, 41.43)},
    "condconv": {"cond_resnet18": Printed(81.35, 1.82, 280, 89.90)},
    "dyconv": {
        "dy_resnet18": Printed(45.47, 1.87, 3308, 46.15),
        "dy_resnet50": Printed(100.88, 4.22, 1161, 155.63),
        "dy_mobilenetv2_100": Printed(12.40, 0.33, 3667, 46.93),
        "dy_mobilenetv2_050": Printed(4.57, 0.11, 5818, 45.59),
    },
    "odconv": {
        "od4x_resnet18": Printed(44.90, 1.82, 1267, 54.34),
        "od4x_resnet50": Printed(90.67, 4.12, 560, 132.39),
        "od4x_mobilenetv2_100": Printed(11.52, 0.32, 2226, 59.51),
        "od4x_mobilenetv2_050": Printed(4.44, 0.11, 3761, 62.07),
    },
    "kw": {
        "kw1x_resnet18": Printed(11.93, 2.23, 2272, 69.62),
        "kw1x_resnet50": Printed(28.05, 6.15, 922, 138.78),
        "kw1x_mobilenetv2_100": Printed(5.17, 0.47, 2288, 44.58),
        "kw1x_mobilenetv2_050": Printed(2.85, 0.16, 3284, 26.43),
        "kw1x_convnext_tiny": Printed(32.99, 5.61, 752, 224.98),
    },
    "fdconv": {
        "fd_resnet18": Printed(11.75, 1.92, 422, 1013.0),
        "fd_resnet50": Printed(27.16, 4.29, 230, 1380.65),
    },
    "kerneldna": {**_KERNELDNA},
    "a2d2c": dict.fromkeys(f"a2d2c_{name}" for name in _BACKBONES),
}
OF_THE_TABLE = tuple(name for name in METHODS if name != "a2d2c")

_ASSEMBLY = "the printed FLOPs leave the assembly of kernels out, which is counted here"
_DYCONV = "the attention of the published code has more parameters than are printed"
_KERNELWAREHOUSE = "the printed FLOPs are not those of the published code, which differ by 2 % at most"
_FDCONV = "no setting of the published code has the printed parameters and FLOPs (docs/architectures.md)"
_A2D2C = "no row of Table 1; the counts of its own paper follow from no reading of its text (docs/architectures.md)"
REMARKS: dict[str, str] = {
    # 16 multiply-adds a cycle.
    "resnet18_plain": "the printed 22.16 ms are less than the 34 ms that one AVX2 core takes for its MACs at 3.3 GHz",
    "mobilenet_v2_1d2": "prints 0.11 G, where its count is 0.1048 G",
    "convnext_tiny": "a reconstruction that meets the printed parameters, and not the FLOPs",
    "cgc_resnet18": "the published code, mended, has 32,279 parameters more than the print; 2.19 G is no count of it",
    "dcd_resnet18": "prints 1.90 G, where its count is 1.8909 G",
    "cond_resnet18": _ASSEMBLY,
    **dict.fromkeys(("dy_resnet18", "dy_resnet50", "dy_mobilenetv2_100"), _DYCONV),
    **dict.fromkeys(("od4x_resnet18", "od4x_resnet50"), _ASSEMBLY),
    "od4x_mobilenetv2_100": f"ODConv's own paper prints 11.51 M; {_ASSEMBLY}",
    **dict.fromkeys(("kw1x_resnet18", "kw1x_resnet50", "kw1x_mobilenetv2_100"), _KERNELWAREHOUSE),
    "kw1x_convnext_tiny": "32.99 M and 5.61 G are of no released configuration; its authors print 39.37 M",
    **dict.fromkeys(("fd_resnet18", "fd_resnet50"), _FDCONV),
    **dict.fromkeys(METHODS["a2d2c"], _A2D2C),
}


def rows(methods: Sequence[str]) -> list[list[Architecture]]:
    """For each backbone that one of `methods` has: the plain network, then theirs, in the table's order."""
    names = [name for method, networks in METHODS.items() if method in methods for name in networks]
    found: dict[str, list[Architecture]] = {name: [] for name in TABLE1 if name.endswith("_plain")}
    for architecture in map(_architecture, names):
        found[architecture.plain.name].append(architecture)
    return [[members[0].plain, *members] for members in found.values() if members]


def _architecture(name: str) -> Architecture:
    """With the temperature that training ends at, where one has to be said."""
    found = ARCHITECTURES[name]
    has_one = found.method is not None and "temperature" in found.method.told
    return found.configured(Configuration(temperature=1.0)) if has_one else found
