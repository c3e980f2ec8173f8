"""ONNX file → engine, in memory.

    parse, strongly typed → optimisation profile over the batch range → build, watched → plan

The library decides nothing about precision: the graph does. TF32, which rounds the operands of float32 convolutions to
11 bits of mantissa, is on as in the library, and can be turned off. The workspace is left at the library's default, all
of the GPU's memory.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdna_deploy.errors import ExportError
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.nvidia.batches import Batches, fit_batches
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary, network_flags, set_capabilities
from kdna_deploy.runtimes.nvidia.log import Notice, listening
from kdna_deploy.runtimes.nvidia.onnx_input import OnnxInput
from kdna_deploy.runtimes.nvidia.start import started
from kdna_deploy.targets.tensorrt.layers import EngineLayer, parse_layers
from kdna_deploy.targets.tensorrt.progress import watched
from kdna_deploy.targets.tensorrt.timing_cache import timing_cache

_CONDITION = re.compile(r"^Assertion failed: .*?: |^.* && \"")
_UNKNOWN = "it does not know the operator"


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes:
        batches: the range of batch sizes; None for the file's own fixed size, or the default range.
        tf32: let float32 convolutions round to TF32.
        compute_capabilities: to build for, as ``8.6``; none for the library's own choice.
    """

    batches: Batches | None = None
    tf32: bool = True
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltEngine:
    """An engine in memory.

    Attributes:
        plan: its serialised form.
        batches: that it takes.
        network_layers: in the network that the parser made.
        layers: of the engine, in order of execution; none where the library does not list them.
        warnings: of parser and builder.
        seconds: that parsing and building took.
        notes: what a user should know, a sentence each.
    """

    plan: bytes
    batches: Batches
    network_layers: int
    layers: tuple[EngineLayer, ...]
    warnings: tuple[Notice, ...]
    seconds: float
    notes: tuple[str, ...]


def build_engine(
    source: OnnxInput,
    opened: OpenedLibrary,
    options: BuildOptions,
    listener: Listener = SILENT,
) -> BuiltEngine:
    """Build an engine for `source`. Ctrl-C ends the build at its next step.

    Raises:
        UsageError: the library cannot build for the batch range or the compute capabilities.
        ExportError: the parser refuses the file, or the builder fails.
    """
    batches = fit_batches(options.batches, source.batch, str(source.path))
    begin = time.perf_counter()
    with listening(opened) as (logger, messages):
        builder = started(opened, "Builder", logger, messages)
        config = builder.create_builder_config()
        set_capabilities(opened, config, options.compute_capabilities)
        listener.step(f"parse with {opened.library.title} {opened.version}")
        network = watched(opened.trt, lambda _: _parse(source, opened, builder, logger), listener)
        configure(opened, config, options)
        config.add_optimization_profile(_profile(builder, source, batches))
        listener.step("build the engine")
        with timing_cache(opened, config) as cache:
            plan = _build(opened, builder, network, config, listener)
        if plan is None:
            raise ExportError(
                f"{opened.library.title} cannot build an engine from '{source.path}': {messages.cause()}; "
                f"{_remedy(messages.cause(), options)}."
            )
    return BuiltEngine(
        plan=plan,
        batches=batches,
        network_layers=network.num_layers,
        layers=parse_layers(messages.details),
        warnings=messages.notices(),
        seconds=time.perf_counter() - begin,
        notes=(_timings(opened, cache),),
    )


def _timings(opened: OpenedLibrary, cache: Path | None) -> str:
    if cache:
        return f"timings of kernels are kept in '{cache}'"
    if opened.library.ahead_of_time:
        return "no kernel was timed: that is left to the first run"
    return "the library keeps no timings of kernels here: the next build takes them again"


def _remedy(cause: str, options: BuildOptions) -> str:
    if "memory" in cause.lower():
        return "a smaller `batch` range needs less"
    if options.compute_capabilities:
        return "leave the compute capability that is in the way out, or try another precision"
    return "export the ONNX file again with `target='tensorrt'`"


def _parse(source: OnnxInput, opened: OpenedLibrary, builder: Any, logger: Any) -> Any:
    network = builder.create_network(network_flags(opened))
    parser = opened.trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(source.path)):
        return network
    refusal = _refusal([parser.get_error(index) for index in range(parser.num_errors)])
    remedy = (
        "express it with other operators in the model"
        if refusal.endswith(_UNKNOWN)
        else "export the ONNX file again with `target='tensorrt'`"
    )
    raise ExportError(f"{opened.library.title} {opened.version} does not take '{source.path}': {refusal}; {remedy}.")


def _refusal(errors: list[Any]) -> str:
    """What the parser says about the node that it met first, on one line."""
    if not errors:
        return "it gives no reason"
    description, node, operator = errors[0].desc().strip(), errors[0].node_name(), errors[0].node_operator()
    lines = description.splitlines() or ["it gives no reason"]
    # "Assertion failed: condition: reason" and 'condition && "reason"': the condition is their code.
    reason = _CONDITION.sub("", lines[0]).rstrip('."!')[:300]
    if reason == "false" or "Plugin not found" in reason:
        reason = _UNKNOWN
    return f"at node '{node}' ({operator}), {reason}" if operator else reason


def configure(opened: OpenedLibrary, config: Any, options: BuildOptions) -> None:
    """Set what does not depend on the network."""
    trt = opened.trt
    # Nothing of it is needed to run: it makes the builder list its layers, and leaves room for the engine inspector.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)


def _profile(builder: Any, source: OnnxInput, batches: Batches) -> Any:
    profile = builder.create_optimization_profile()
    sizes = (batches.smallest, batches.typical, batches.largest)
    axes = source.interface.shape(source.image_shape)
    profile.set_shape(source.name, *((size, *axes) for size in sizes))
    return profile


def _build(opened: OpenedLibrary, builder: Any, network: Any, config: Any, listener: Listener) -> bytes | None:
    def build(monitor: Any) -> bytes | None:
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(plan)

    return watched(opened.trt, build, listener)
