"""What a user says of a measurement, and what that excludes: checked before anything is loaded or built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.runtimes.table import PRECISIONS, RUNTIMES, runtimes_on
from kdna_deploy.verbs.arguments import LARGEST_BATCH, PathLike, chosen
from kdna_deploy.words import parameters, said

PROTOCOLS = ("interleaved", "paper")
SUITES = ("table1", "layouts", "runtimes")
METHODS = (  # of the paper's Table 1, in its order, and one that is none of them
    *("se", "cbam", "eca", "cgc", "dcd", "condconv", "dyconv", "odconv", "kw", "fdconv", "kerneldna"),
    "a2d2c",
)


def check_words(
    protocol: str, suite: str | None, baseline: PathLike | None, precision: Sequence[str], batch: int | None
) -> None:
    chosen("protocol", protocol, PROTOCOLS)
    if suite is not None:
        chosen("suite", suite, SUITES)
    for one in precision:
        chosen("precision", one, PRECISIONS)
    if suite and baseline:
        raise UsageError(f"`suite={suite!r}` brings its own baselines; leave out `baseline`.")
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UsageError(f"`batch_size` is {batch}; give a number from 1 to {LARGEST_BATCH}.")


def check_suite(suite: str | None, words: Mapping[str, object]) -> None:
    """Refuse `words` of how a network is loaded where a suite builds its own.

    Raises:
        UsageError: some were said.
    """
    if suite is not None and (names := said(words)):
        raise UsageError(f"`suite={suite!r}` builds its own networks; leave {parameters(names)} out.")


def chosen_methods(value: str | Sequence[str], suite: str | None) -> tuple[str, ...]:
    """``"kw,odconv"`` or a sequence of such names; none for none.

    Raises:
        UsageError: there is no such method, or the suite is not the one of methods.
    """
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    if names and suite != "table1":
        raise UsageError("`methods` belongs to `suite='table1'`; add that, or leave it out.")
    return tuple(dict.fromkeys(chosen("methods", one, METHODS) for one in names))


def check_device(
    gpu: bool,
    runtimes: Sequence[str],
    on_cpu: tuple[int, str, bool, bool],
    precision: Sequence[str],
    streams: int,
    host_copies: bool,
) -> None:
    """Refuse what belongs to the other device."""
    threads, protocol, cold_start, profile = on_cpu
    if gpu and (threads != 1 or protocol != "interleaved" or not cold_start or profile):
        raise UsageError("`cpu_threads`, `protocol`, `cold_start` and `profile` are for the CPU; leave them, or `gpu`.")
    if not gpu and (precision or streams != 1 or host_copies):
        raise UsageError("`precision`, `streams` and `host_copies` belong to `gpu`; add that, or leave them out.")
    on_gpu = runtimes_on("gpu")
    for name in runtimes:
        chosen("runtime", name, tuple(RUNTIMES))
        if gpu and name not in on_gpu:
            raise UsageError(f"`runtime={name!r}` runs on the CPU; with `gpu` choose from {', '.join(on_gpu)}.")
        if not gpu and name in on_gpu:
            raise UsageError(f"`runtime={name!r}` runs on the GPU; add `gpu`.")


def check_gpu(suite: str | None, baseline: str | None) -> None:
    """Refuse before anything is loaded or built.

    Raises:
        UsageError: there is no such suite or baseline on the GPU.
        RuntimeFailure: there is no GPU.
    """
    from kdna_deploy.runtimes.nvidia.gpu import needed_gpu

    if baseline in RUNTIMES:
        raise UsageError(f"With `gpu`, `baseline` is a model file, not the runtime '{baseline}'.")
    if baseline and baseline.endswith(".json"):
        raise UsageError(
            f"With `gpu`, `baseline` is a model file, not the saved run '{baseline}'; compare saved runs by `compare`."
        )
    if suite not in (None, "table1"):
        raise UsageError(f"`suite={suite!r}` measures on the CPU; with `gpu` there is `suite='table1'`.")
    needed_gpu("`bench(gpu=True)` measures")


def baseline_file(text: str | None) -> tuple[Path, ...]:
    """The file that a baseline is, checked; none where it is a runtime.

    Raises:
        UsageError: it is empty.
        InputError: it cannot be read.
    """
    if text is None or text in RUNTIMES:
        return ()
    if not text.strip():
        raise UsageError("`baseline` is empty; name a model, a saved run or a runtime, or leave the option out.")
    check_input(Path(text), (Kind.saved_run,) if text.endswith(".json") else MODELS, "`baseline`")
    return (Path(text),)
