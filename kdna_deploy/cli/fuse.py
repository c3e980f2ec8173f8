"""``kdna-deploy fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.graph import (
    Attention,
    AttentionOption,
    Children,
    ChildrenOption,
    FreezeBelow,
    YesDrop,
    check_confirmed,
)
from kdna_deploy.cli.options.images import Calibration, ColorOption, Crop, Mean, Resize, Std
from kdna_deploy.cli.options.output import Json, Output, SaveMerged
from kdna_deploy.cli.options.source import Arch, Checkpoint, Ema, InputSize, Model
from kdna_deploy.kinds import FUSED, stem
from kdna_deploy.verbs.fuse import fuse as fused


@with_architecture
def fuse(
    ckpt: Checkpoint,
    output: Output = None,
    save_merged: SaveMerged = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    children: ChildrenOption = Children.materialize,
    attention: AttentionOption = Attention.keep,
    yes_drop: YesDrop = False,
    freeze_below: FreezeBelow = None,
    calibration: Calibration = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Fold what is static, and write a fused graph (.fused.pt2).

    Static attention and BatchNorm go into the kernels; children get kernels of their own or share their parent's. The
    fused graph is compared with the network as it was trained before it is written.
    """
    sink = Sink(json)
    check_confirmed(attention, yes_drop)
    with sink.listening() as listener:
        done = fused(
            ckpt,
            output or Path(stem(ckpt) + FUSED),
            save_merged=save_merged,
            arch=arch,
            model=model,
            ema=ema,
            input_size=input_size,
            children=children.value,
            attention=attention.value,
            freeze_below=freeze_below,
            calibration=calibration,
            mean=mean,
            std=std,
            resize=resize,
            crop=crop,
            color=color.value if color else None,
            listener=listener,
            **architecture,
        )
    sink.report(done.report)
