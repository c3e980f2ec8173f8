"""Everything that a command imports, for processes that are forked from one that has it."""

import onnx  # noqa: F401
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import torch
import torch.export

import kdna_deploy.cli.app
import kdna_deploy.export.onnx.export
import kdna_deploy.reports.data
import kdna_deploy.reports.tables  # noqa: F401

torch.set_num_threads(1)
