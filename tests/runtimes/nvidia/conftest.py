"""What the tests of engines share with those that build them."""

from tests.targets.tensorrt.conftest import small

__all__ = ["small"]
