"""What doctor says of machines that saccade was never tried on."""

from __future__ import annotations

import pytest

from saccade import environment
from saccade.cli.doctor import verified


def test_only_the_machine_it_was_tried_on_is_called_verified() -> None:
    assert verified("Linux", "x86_64") == "All else is verified on x86-64 Linux CPUs."


@pytest.mark.parametrize(
    ("system", "machine"),
    [("Linux", "aarch64"), ("Darwin", "arm64"), ("Darwin", "x86_64"), ("Windows", "AMD64")],
)
def test_any_other_machine_is_told_so(system: str, machine: str) -> None:
    said = verified(system, machine)
    assert "All else is verified" not in said
    assert f"This is {system} on {machine}, where nothing of the above was." in said


def test_the_gpu_of_a_jetson_counts_where_nvidia_smi_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "_gpu", lambda: None)
    monkeypatch.setattr(environment, "jetson", lambda: "NVIDIA Jetson Nano, L4T 32.7.1")
    assert environment.detect.__wrapped__().gpu == "NVIDIA Jetson Nano, L4T 32.7.1"
    monkeypatch.setattr(environment, "_gpu", lambda: "Orin (nvgpu), driver 540.3.0")
    assert environment.detect.__wrapped__().gpu == "Orin (nvgpu), driver 540.3.0"
