"""The architectures that published checkpoints of KernelDNA, and of what it is compared with, hold: one table.

Another layout, ablation or width is a `Configuration` of an entry; a further backbone is a file here and an entry.
"""

from __future__ import annotations

from kdna_deploy.network.architecture import Architecture, plain_name
from kdna_deploy.network.backbone import KernelDNA
from kdna_deploy.network.families import kernelwarehouse, others
from kdna_deploy.network.families.convnext import ConvNeXtSpec
from kdna_deploy.network.families.karst import Karst
from kdna_deploy.network.families.mobilenet import MobileNetV2Spec
from kdna_deploy.network.families.resnet import ResNetSpec
from kdna_deploy.network.families.swin import SwinSpec
from kdna_deploy.network.families.vit import ViTSpec

_RESNET18 = ResNetSpec("basic", (2, 2, 2, 2))
_RESNET50 = ResNetSpec("bottleneck", (3, 4, 6, 3))
_MOBILENET_CLUSTERS = KernelDNA(
    (("features.6", "F-S-F"), ("features.10", "F-S-S-F"), ("features.13", "F-S-F"), ("features.16", "F-S-F")),
    attentions=frozenset({"channel", "filter"}),
    reductions=(4, 24),
)

_KERNELDNA = (
    Architecture("resnet18", _RESNET18, KernelDNA((("layer3", "FS-SF-SF"), ("layer4", "FS-SF-SF")))),
    Architecture("resnet50", _RESNET50, KernelDNA((("layer3", "F-S-F-S-F-S-F"), ("layer4", "F-S-F")))),
    Architecture("mobilenet_v2", MobileNetV2Spec(), _MOBILENET_CLUSTERS),
    Architecture("mobilenet_v2_1d2", MobileNetV2Spec().scaled(0.5), _MOBILENET_CLUSTERS),
    # A reconstruction that meets the paper's count.
    Architecture(
        "convnext_tiny",
        ConvNeXtSpec(),
        KernelDNA((("stages.3", "F-S-F"),), attentions=frozenset({"channel", "filter"}), reductions=(4, 128)),
    ),
)

_KERNELWAREHOUSE = tuple(
    Architecture(f"{configuration}_{name}", backbone, method=method, baseline=baseline)
    for name, backbone, baseline, configurations in (
        ("resnet18", _RESNET18, "resnet18_plain", kernelwarehouse.RESNET18),
        ("resnet50", _RESNET50, "resnet50_plain", kernelwarehouse.RESNET50),
        ("mobilenetv2_100", MobileNetV2Spec(), "mobilenet_v2_plain", kernelwarehouse.MOBILENET_V2),
        ("mobilenetv2_050", MobileNetV2Spec().scaled(0.5), "mobilenet_v2_1d2_plain", kernelwarehouse.MOBILENET_V2),
        ("convnext_tiny", ConvNeXtSpec(), "convnext_tiny_plain", kernelwarehouse.CONVNEXT_TINY),
    )
    for configuration, method in configurations.items()
)

_TRANSFORMERS = (
    Architecture("vit_base_patch16_224", ViTSpec()),
    Architecture("swin_base_patch4_window7_224", SwinSpec()),
)
_KARST = tuple(
    Architecture(f"karst_{base.name}", base.backbone, method=Karst(ranks), baseline=base.name)
    for base, ranks in zip(_TRANSFORMERS, ((8,), (2, 2, 4, 8)), strict=True)
)
_OTHERS = tuple(
    Architecture(f"{prefix}_{name}", backbone, method=method, baseline=baseline)
    for name, backbone, baseline, methods in (
        ("resnet18", _RESNET18, "resnet18_plain", others.RESNET18),
        ("resnet50", _RESNET50, "resnet50_plain", others.RESNET50),
        ("mobilenetv2_100", MobileNetV2Spec(), "mobilenet_v2_plain", others.MOBILENET_V2),
        ("mobilenetv2_050", MobileNetV2Spec().scaled(0.5), "mobilenet_v2_1d2_plain", others.MOBILENET_V2),
    )
    for prefix, method in methods.items()
)

ARCHITECTURES: dict[str, Architecture] = {
    **{entry.name: entry for entry in _KERNELDNA},
    **{plain_name(entry.name): entry.plain for entry in _KERNELDNA},
    **{entry.name: entry for entry in (*_KERNELWAREHOUSE, *_OTHERS, *_TRANSFORMERS, *_KARST)},
}

__all__ = ["ARCHITECTURES", "Architecture", "KernelDNA"]
