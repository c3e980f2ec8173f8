"""Parents and children, and the sharing ledger from stage to stage, as tables."""

from __future__ import annotations

from kdna_deploy.graph.ledger import KernelStorage, Ledger
from kdna_deploy.network.method import Store
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import megabytes


def ledger_cells(ledger: Ledger) -> Cells:
    """Parent → children."""
    rows = tuple(
        (
            parent.name.removesuffix(".weight"),
            ", ".join(parent.children),
            "×".join(map(str, parent.shape)),
            "yes" if parent.layer else "no",
        )
        for parent in ledger.parents
    )
    return Cells("Shared kernels", ("parent kernel", "children", "shape", "own layer"), rows, left=2)


def store_cells(stores: tuple[Store, ...]) -> Cells:
    """Warehouse → the layers whose kernels are assembled of its cells."""
    rows = tuple(
        (store.name, ", ".join(store.layers), str(store.shape[0]), "×".join(map(str, store.shape[1:])), stored)
        for store in stores
        for stored in (megabytes(store.stored_bytes),)
    )
    return Cells("Warehouses", ("warehouse", "layers that read it", "cells", "cell", "stored"), rows, left=2)


def assembled(stores: tuple[Store, ...]) -> str:
    """``19 layers of 4 warehouses, 44.6 MB stored, 67.1 MB as kernels of their own``."""
    layers = sum(len(store.layers) for store in stores)
    stored, own = (megabytes(sum(store.stored_bytes for store in stores)), sum(one.assembled_bytes for one in stores))
    return f"{layers} layers of {len(stores)} warehouses, {stored} stored, {megabytes(own)} as kernels of their own"


def storage_cells(storage: tuple[KernelStorage, ...]) -> Cells:
    """The sharing ledger, stage by stage."""
    rows = tuple(
        (
            row.stage,
            str(row.kernels),
            str(row.convolutions),
            megabytes(row.unique_bytes),
            megabytes(row.materialised_bytes),
        )
        for row in storage
    )
    headings = ("stage", "kernels", "convolutions", "stored", "materialised")
    return Cells("Convolution kernels, and the convolutions that use them", headings, rows)


def sharing(ledger: Ledger, children: str) -> str:
    """``6 children of 4 parent kernels, materialised``; of a network like any other that there is nothing to share."""
    if not ledger.parents:
        return "plain: nothing shared"
    return f"{ledger.children} children of {len(ledger.parents)} parent kernels, {children}"
