"""The throughput protocol on real sessions, whose device is the CPU, and its figures on given samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.benchmark.gpu import throughput
from kdna_deploy.benchmark.gpu.throughput import FEWEST, SpanRunner, span_of
from kdna_deploy.benchmark.protocol import RUNS, Measured, Settings, interleave
from kdna_deploy.benchmark.statistics import Ratio, Samples, images_per_second, kept, paired_ratio
from kdna_deploy.progress import SILENT, Listener
from tests.benchmark.gpu.on_host import SHAPE, OnHost, write_network
from tests.benchmark.heard import Heard

IMAGES = np.random.default_rng(0).standard_normal((4, *SHAPE), dtype=np.float32)


def measure_throughput(
    openers: Sequence[Callable[[], OnHost]], settings: Settings, listener: Listener = SILENT
) -> Measured:
    """As the device does."""

    @contextmanager
    def opened(opener: Callable[[], OnHost]) -> Iterator[SpanRunner]:
        with opener() as session:
            session.load_on_device(IMAGES)
            yield SpanRunner(session, host_copies=False)

    return interleave([partial(opened, opener) for opener in openers], settings, listener)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SPAN_MS", 2.0)
    monkeypatch.setattr(throughput, "WARM_UP_S", 0.01)


@pytest.mark.slow
def test_a_slower_network_keeps_less_of_the_throughput(tmp_path: Path) -> None:
    fast, slow = write_network(tmp_path / "fast.onnx", 1), write_network(tmp_path / "slow.onnx", 12)
    settings = Settings(iterations=36, min_time=0.0)
    measured = measure_throughput([lambda: OnHost(fast), lambda: OnHost(slow)], settings)
    assert measured.complete
    shape = (settings.blocks * settings.rounds, RUNS)
    assert {one.values.shape for taken in measured.taken for one in (taken.samples, taken.singles)} == {shape}
    ratio = paired_ratio(measured.samples[1], measured.samples[0])
    assert ratio.verdict == "slower"
    share = kept(ratio)
    assert share.low is not None and share.high is not None and share.low < share.value < share.high < 1
    assert images_per_second(measured.samples[1], 4) < images_per_second(measured.samples[0], 4)


def test_a_turn_is_an_untimed_inference_then_spans_then_single_ones(tmp_path: Path) -> None:
    opened: list[OnHost] = []

    def open_one() -> OnHost:
        opened.append(OnHost(write_network(tmp_path / "net.onnx")))
        return opened[-1]

    measured = measure_throughput([open_one], Settings(iterations=3, min_time=0.0))
    (session,) = opened
    assert session.loaded is IMAGES
    *_, first, a, b, c, one, two, three = session.spans
    assert first == one == two == three == 1
    assert a == b == c >= FEWEST
    assert len(measured.samples[0].values) == 1


@pytest.mark.slow
def test_sessions_are_opened_anew_for_every_block(tmp_path: Path) -> None:
    path, opened = write_network(tmp_path / "net.onnx"), []

    def open_one() -> OnHost:
        opened.append(1)
        return OnHost(path)

    settings = Settings(iterations=12, min_time=0.0)
    measure_throughput([open_one, open_one], settings)
    assert len(opened) == 2 * settings.blocks == 8


def test_an_interruption_keeps_the_complete_rounds(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")

    def interrupt(done: float) -> None:
        if done > 0.4:
            raise KeyboardInterrupt

    settings = Settings(iterations=12, min_time=0.0)
    measured = measure_throughput([lambda: OnHost(path)], settings, Heard(interrupt))
    assert not measured.complete
    assert 0 < measured.samples[0].rounds < settings.blocks * settings.rounds


def test_an_interruption_before_the_first_round_leaves_no_samples(tmp_path: Path) -> None:
    def interrupt() -> OnHost:
        raise KeyboardInterrupt

    measured = measure_throughput([interrupt], Settings(3, 0.0))
    assert [one.values.shape for taken in measured.taken for one in (taken.samples, taken.singles)] == [(0, RUNS)] * 2


@pytest.mark.parametrize(("milliseconds", "span"), [(0.001, 2000), (0.5, 4), (1.0, 3), (100.0, FEWEST)])
def test_a_span_is_as_long_as_told_and_of_a_few_inferences_at_least(milliseconds: float, span: int) -> None:
    assert span_of(milliseconds) == span


def test_throughput_is_images_over_the_median_time() -> None:
    spans = Samples(np.array([[10.0, 20.0, 16.0], [16.0, 12.0, 99.0]]), np.array([0, 0]))
    assert images_per_second(spans, 128) == pytest.approx(128 / 0.016)


def test_what_is_kept_is_the_inverse_of_the_ratio_with_its_ends_exchanged() -> None:
    share = kept(Ratio(1.25, 1.2, 1.3, floor=0.01))
    assert share.value == pytest.approx(0.8)
    assert (share.low, share.high) == pytest.approx((1 / (1.3 * 1.01), 1.01 / 1.2))
    unknown = kept(Ratio(2.0, None, None))
    assert (unknown.value, unknown.low, unknown.high) == (0.5, None, None)
