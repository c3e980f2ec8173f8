"""What the JSON document of a bench holds, as docs/bench-file.md describes it: fields, their kinds and their bounds."""

from __future__ import annotations

from kdna_deploy.benchmark.cpu.profile import GROUPS
from kdna_deploy.json_schema import (
    anything,
    boolean,
    integer,
    list_of,
    mapping,
    number,
    one_of,
    optional,
    record,
    text,
    within,
)

_LARGEST = 1e15
_count = integer(0)
_positive, _from_zero = within(1 / _LARGEST, _LARGEST), within(0, _LARGEST)  # the former are divided by
_numbers = list_of(number)
_samples = list_of(_numbers)
_words = list_of(text())
_estimate = record({"value": number, "low": optional(number), "high": optional(number)})
_kernel = record({"name": text(), "gflops": _positive})
_summary = record({**dict.fromkeys(("median", "mean", "p90", "p99", "minimum"), _positive), "runs": _count})
_ratio = record(
    {
        "value": _positive,
        **dict.fromkeys(("bootstrap_low", "bootstrap_high"), optional(number)),
        "noise_floor": _from_zero,
        "verdict": text(),
    }
)
_cold = record(
    {
        **dict.fromkeys(("import_ms", "load_ms", "first_ms"), number),
        **dict.fromkeys(("resident_bytes", "peak_bytes"), _count),
    },
    dict.fromkeys(("private_bytes", "shared_bytes", "together_bytes"), optional(_count)),
)
_row = record(
    {
        **dict.fromkeys(("name", "model", "runtime", "runtime_version"), text()),
        "runtime_options": mapping(text(), anything),
        **dict.fromkeys(("parameters", "macs", "file_bytes"), _count),
        "latency_ms": optional(_summary),
        "baseline": optional(text()),
        "ratio": optional(_ratio),
        "share_of_peak": optional(number),
        "cold_start": optional(_cold),
        "unavailable": optional(text()),
        "samples_ms": _samples,
        "blocks": list_of(_count),
    },
    {
        "image_shape": list_of(_count),
        "precision": text(),
        "throughput": optional(number),
        "kept": optional(_estimate),
        "single_ms": _samples,
    },
)
_layer = record(
    {
        **dict.fromkeys(("name", "operator"), text()),
        "group": one_of(*GROUPS),
        "shape": list_of(_count),
        "microseconds": _from_zero,
    }
)
_streams = record(
    {
        "name": text(),
        "streams": _count,
        "batch": _count,
        "throughput": number,
        "kept": optional(_estimate),
        "noise_floor": optional(number),
        "runtime_options": mapping(text(), anything),
        "samples_ms": _samples,
        "blocks": list_of(_count),
    }
)
_printed = record({"parameters_m": number, "flops_g": optional(number), "gpu_fps": number, "cpu_ms": optional(number)})
_entry = record(
    {"name": text(), **dict.fromkeys(("parameters", "macs", "table_flops"), _count), "printed": optional(_printed)},
    {"remark": text()},
)
_unread = mapping(text(), anything)
_gpu_state = record(
    {
        "samples": _count,
        **dict.fromkeys(("sm_mhz", "power_w"), optional(_numbers)),
        **dict.fromkeys(("memory_mhz", "temperature_c"), optional(number)),
        "throttled": mapping(text(), number),
        **dict.fromkeys(("before", "after"), optional(_unread)),
    }
)
_options = record(
    {
        "batch": _count,
        "runtimes": _words,
        "baseline": text(),
        "iterations": _count,
        "min_time_s": number,
        "protocol": one_of("interleaved", "paper"),
        "methods": _words,
    },
    {
        "threads": _count,
        "device": text(),
        "precisions": _words,
        "streams": _count,
        "cuda_graphs": boolean,
        "host_copies": boolean,
    },
)
_environment = record(
    {
        "cpu": text(),
        "flags": _words,
        "cores": _count,
        "memory_gib": number,
        "governor": optional(text()),
        **dict.fromkeys(("load", "cgroup_cpus", "cgroup_memory_gib"), optional(number)),
        "system": text(),
        "python": text(),
        "versions": mapping(text(), text()),
    },
    {
        "gpu": text(),
        "gpu_compute_capability": text(),
        "gpu_driver": optional(text()),
        "gpu_cuda": optional(text()),
        "gpu_power_limit_w": optional(number),
        "gpu_max_sm_mhz": optional(number),
    },
)
document = record(
    {
        "partial": boolean,
        "suite": optional(text()),
        "options": _options,
        "environment": _environment,
        "cores": list_of(_count),
        "peak": optional(record({"best": _kernel, "tried": list_of(_kernel)})),
        "profiles": list_of(record({"name": text(), "layers": list_of(_layer)})),
        "differences": list_of(
            record({"name": text(), "baseline": text(), "difference_ms": number, "extra_macs_ms": number})
        ),
        "cpu_streams": list_of(_streams),
        "noise_floors": list_of(record({"baseline": text(), "value": optional(number), "ratio": _ratio})),
        "notes": _words,
        "networks": list_of(_entry),
        "rows": list_of(_row, least=1),
    },
    {"gpu_state": optional(_gpu_state)},
)
