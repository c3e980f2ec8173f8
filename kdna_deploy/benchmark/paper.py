"""What the KernelDNA paper prints of the networks that this project knows: Tables 1, 3, 5 and 7, 224×224.

Each is a configuration of an architecture; `known_networks` lists them. Table 4's ``Expand`` gives every layer a kernel
of its own, and its ``Copy`` leaves children their parent's kernel as it is; that is how we read these words.

Measured there on an RTX 4090 (throughput, batch 128) and an AMD EPYC 7H12 (latency, batch 1, one thread, mean of 1,000
runs).
Absolute times do not carry over to another machine; the ratio of a network to its plain backbone may.
"""

from __future__ import annotations

from dataclasses import dataclass

from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.configuration import Attention, Configuration
from kdna_deploy.network.families import ARCHITECTURES


@dataclass(frozen=True)
class Printed:
    """A row of a table, as printed: parameters in millions, FLOPs in billions, None where a table lacks the column."""

    parameters_m: float
    flops_g: float | None
    gpu_fps: float
    cpu_ms: float | None


# Architecture → row of Table 1.
TABLE1: dict[str, Printed] = {
    "resnet18_plain": Printed(11.69, 1.82, 8463, 22.16),
    "resnet18": Printed(9.24, 2.28, 7683, 28.43),
    "resnet50_plain": Printed(25.56, 4.11, 2432, 90.77),
    "resnet50": Printed(22.78, 4.33, 2346, 93.12),
    "mobilenet_v2_plain": Printed(3.50, 0.31, 6323, 30.21),
    "mobilenet_v2": Printed(3.14, 0.31, 6260, 33.46),
    "mobilenet_v2_1d2_plain": Printed(1.97, 0.10, 12787, 10.04),
    "mobilenet_v2_1d2": Printed(1.88, 0.11, 12461, 10.27),
    "convnext_tiny_plain": Printed(28.59, 4.47, 1847, 56.20),
    "convnext_tiny": Printed(24.32, 4.51, 1739, 60.12),
}

# Layout of ResNet-18's last two stages → row of Table 3. The first is the plain backbone.
TABLE3: dict[str, Printed] = {
    "FF-FF": Printed(11.69, None, 8463, None),
    "FF-FFF": Printed(14.64, None, 7944, None),
    "FF-FF-FF": Printed(17.59, None, 7496, None),
    "FS-FSF": Printed(9.07, None, 7814, None),
    "FS-SSF": Printed(6.29, None, 7756, None),
    "FS-SF-SF": Printed(9.24, None, 7683, None),
}

# Attentions of ResNet-18's children → parameters of Table 5, in millions.
TABLE5: dict[tuple[Attention, ...], str] = {
    (): "8.74",
    ("channel",): "9.24",
    ("spatial",): "8.74",
    ("filter",): "8.75",
    ("channel", "spatial"): "9.24",
    ("channel", "filter"): "9.24",
    ("filter", "spatial"): "8.75",
    ("channel", "filter", "spatial"): "9.24",
}

# Reduction of ResNet-18's channel attention → parameters of Table 7, in millions.
TABLE7 = {1: "10.719", 2: "9.733", 4: "9.241", 8: "8.994", 16: "8.871"}

# KernelWarehouse's networks → parameters as its authors print them, in millions. Of kw1d4x_resnet18 they print 4.08,
# which no network of theirs has: their code makes one of 4.03.
KERNELWAREHOUSE = {
    "kw1d4x_resnet18": "",
    "kw1d2x_resnet18": "7.43",
    "kw1x_resnet18": "11.93",
    "kw2x_resnet18": "23.24",
    "kw4x_resnet18": "45.86",
    "kw1d2x_resnet50": "17.64",
    "kw1x_resnet50": "28.05",
    "kw4x_resnet50": "102.02",
    "kw1d2x_mobilenetv2_100": "2.65",
    "kw1x_mobilenetv2_100": "5.17",
    "kw4x_mobilenetv2_100": "11.38",
    "kw1d2x_mobilenetv2_050": "1.47",
    "kw1x_mobilenetv2_050": "2.85",
    "kw4x_mobilenetv2_050": "4.65",
    "kw1x_convnext_tiny": "39.37",
}

# Networks of the other methods of Table 1 → what they are checked against, and parameters as printed, where these are
# met.
_ODCONV = "published names, shapes, counts and outputs"
_ODCONV_COUNTED = "published names, shapes and counts"
_NAMES = "published names; Table 1"
_A2D2C = "its equations (a reconstruction)"
OTHERS: dict[str, tuple[str, str]] = {
    "od4x_resnet18": (_ODCONV, "44.90"),
    "od1x_resnet18": (_ODCONV_COUNTED, "11.94"),
    "od4x_resnet50": (_ODCONV_COUNTED, "90.67"),
    "od4x_mobilenetv2_100": (f"{_ODCONV}; Table 1 prints 11.52 M", "11.51"),
    "od1x_mobilenetv2_100": (_ODCONV, "4.94"),
    "od4x_mobilenetv2_050": (_ODCONV_COUNTED, "4.44"),
    "dy_resnet18": (f"{_NAMES} prints 45.47 M", ""),
    "dy_resnet50": (f"{_NAMES} prints 100.88 M", ""),
    "dy_mobilenetv2_100": (f"{_NAMES} prints 12.40 M", ""),
    "dy_mobilenetv2_050": (_NAMES, "4.57"),
    "cond_resnet18": ("Table 1 (a reconstruction)", "81.35"),
    "se_resnet18": (_NAMES, "11.78"),
    "cbam_resnet18": (_NAMES, "11.78"),
    "eca_resnet18": (_NAMES, "11.69"),
    "cgc_resnet18": (f"{_NAMES} prints 11.69 M", ""),
    "dcd_resnet18": (_NAMES, "14.70"),
    "fd_resnet18": (f"{_NAMES} prints 11.75 M", ""),
    "fd_resnet50": (f"{_NAMES} prints 27.16 M", ""),
    **{f"{method}_resnet50": ("published names", "") for method in ("od1x", "se", "cbam", "eca", "cgc", "dcd")},
    "od1x_mobilenetv2_050": ("published names", ""),
    **{name: (_A2D2C, "") for name in ARCHITECTURES if name.startswith("a2d2c_")},
}

# KARST's networks and those that they adapt. The paper prints adapters alone.
_ADAPTED = "published names, shapes, counts and outputs"
KARST: dict[str, str] = {
    "vit_base_patch16_224": "timm's names; outputs with adapters",
    "karst_vit_base_patch16_224": f"{_ADAPTED}; adapters 0.30 M as printed",
    "swin_base_patch4_window7_224": "timm's names; outputs with adapters",
    "karst_swin_base_patch4_window7_224": f"{_ADAPTED}; 0.45 M adapters are printed, and not met",
}


@dataclass(frozen=True)
class Known:
    """A network that is checked against something.

    Attributes:
        said: what tells it from others.
        checked: what it is checked against.
        printed: its parameters in millions, as printed; empty where they are not.
    """

    said: Configuration
    checked: str
    printed: str = ""

    @property
    def architecture(self) -> Architecture:
        assert self.said.arch is not None
        return ARCHITECTURES[self.said.arch].configured(self.said)

    @property
    def system(self) -> str:
        """Whose layers it has."""
        method = self.architecture.method
        return method.kind if method else "KARST" if self.said.arch in KARST else "KernelDNA"


def known_networks() -> tuple[Known, ...]:
    """Every network of the paper that a configuration makes, the published ones first, then those of other systems."""
    return (
        *(
            Known(
                Configuration(name),
                _checked(name),
                f"{row.parameters_m:.2f}",
            )
            for name, row in TABLE1.items()
        ),
        *(
            Known(Configuration("resnet18", layout=layout), "Table 3", f"{row.parameters_m:.2f}")
            for layout, row in TABLE3.items()
        ),
        *(Known(_with("resnet18", attentions), "Table 5", millions) for attentions, millions in TABLE5.items()),
        *(
            Known(Configuration("resnet18", reductions=(reduction,)), "Table 7", millions)
            for reduction, millions in TABLE7.items()
        ),
        *(
            known
            for name, entry in ARCHITECTURES.items()
            if entry.sharing
            for known in (
                Known(Configuration(name, layout=_expanded(entry)), "Table 4, Expand: its count is not known"),
                Known(_with(name, ()), "Table 4, Copy: its count is not known"),
            )
        ),
        *(
            Known(
                Configuration(name),
                f"published names, shapes, counts and outputs{'' if millions else '; 4.08 M is printed, and not met'}",
                millions,
            )
            for name, millions in KERNELWAREHOUSE.items()
        ),
        *(Known(Configuration(name), checked, millions) for name, (checked, millions) in OTHERS.items()),
        *(Known(Configuration(name), checked) for name, checked in KARST.items()),
    )


def _checked(name: str) -> str:
    if name.startswith("convnext"):
        return "names of both publications; Table 1" if name.endswith("_plain") else "Table 1 (a reconstruction)"
    return "published names, shapes and outputs; Table 1" if ARCHITECTURES[name].sharing else "Table 1"


def _with(name: str, attentions: tuple[Attention, ...]) -> Configuration:
    lacking = {kind: False for kind in ("channel", "filter", "spatial") if kind not in attentions}
    return Configuration(name, **lacking)  # type: ignore[arg-type]


def _expanded(entry: Architecture) -> str:
    layouts = {stage: layout.replace("S", "F") for stage, layout in entry.layouts.items()}
    same = set(layouts.values())
    return same.pop() if len(same) == 1 else ",".join(f"{stage}={layout}" for stage, layout in layouts.items())
