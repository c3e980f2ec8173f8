"""Graphs that no test changes, translated to ONNX once a process however often they are exported.

An export begins with the translation, which takes most of its time, and `spell` copies it before anything is changed.
A graph that is not `kept` is translated anew, as for a user; so is one in whose translation a test plants faults.
"""

from __future__ import annotations

import functools
from typing import Any

from kdna_deploy.graph.graph import Graph
from kdna_deploy.targets.onnx import export
from kdna_deploy.targets.onnx.convert import Translation
from kdna_deploy.targets.source import FusedSource

_kept: dict[int, Graph] = {}  # by identity
_translate = export.translate


def kept(opened: FusedSource) -> FusedSource:
    """`opened`, whose graph nobody changes from now on."""
    _kept[id(opened.graph)] = opened.graph
    return opened


@functools.cache
def _translated(graph: int, opset: int, batch: int | None) -> Translation:
    return _translate(_kept[graph], opset, batch)


def _translate_once(graph: Graph, *options: Any) -> Translation:
    return _translated(id(graph), *options) if id(graph) in _kept else _translate(graph, *options)


export.translate = _translate_once
