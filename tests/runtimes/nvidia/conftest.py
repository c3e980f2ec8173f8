"""What the tests of engines share with those that build them."""

from tests.targets.tensorrt.conftest import published_onnx, small

__all__ = ["published_onnx", "small"]
