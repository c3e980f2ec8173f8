"""What the tests of both TensorRT libraries start from is that of the engines' tests."""

from tests.export.tensorrt.conftest import rtx as rtx
from tests.export.tensorrt.conftest import small as small
