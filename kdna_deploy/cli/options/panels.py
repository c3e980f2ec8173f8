"""The topics of the help pages, in the order in which a page shows them; the same for every command."""

from __future__ import annotations

from enum import Enum

SOURCE = "Source"
ARCHITECTURE = "Architecture"
GRAPH = "Graph"
PRECISION = "Precision"
IMAGES = "Images"
COMPARISON = "Comparison"
DEVICE = "Device"
PROTOCOL = "Protocol"
ENGINE = "Engine"
OUTPUT = "Output"
HELP = "Help"
PANELS = (SOURCE, ARCHITECTURE, GRAPH, PRECISION, IMAGES, COMPARISON, DEVICE, PROTOCOL, ENGINE, OUTPUT, HELP)


def choices(kind: type[Enum]) -> str:
    """The metavar of an option that takes one of a few words."""
    return "|".join(str(choice.value) for choice in kind)
