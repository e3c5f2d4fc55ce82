from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from saccade import environment
from saccade.environment import (
    Environment,
    cpu_model,
    cpu_quota,
    detect,
    isa_flags,
    jetson,
    memory_limit_mb,
    noise_level,
    noise_of,
    steal_ticks,
)
from saccade.testing.fake_clock import FakeClock

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R)   Platinum 8481C
flags\t\t: fpu avx avx2 avx512f avx512_vnni amx_int8 rdtscp
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_x86_model_and_flags_are_read() -> None:
    assert cpu_model(X86) == "Intel(R) Xeon(R) Platinum 8481C"
    assert isa_flags(X86) == ("avx", "avx2", "avx512f", "avx512_vnni", "amx_int8")


def test_arm_without_a_model_name_is_named_by_its_part() -> None:
    assert cpu_model(ARM).endswith("0x41 0xd40")
    assert isa_flags(ARM) == ("asimd", "asimddp", "bf16", "i8mm")


def test_empty_cpuinfo_gives_nothing() -> None:
    assert cpu_model("") == ""
    assert isa_flags("") == ()


def test_cgroup_v2_quota_of_an_ancestor_binds(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/pod/container\n")
    write(tmp_path / "sys/fs/cgroup/pod/container/cpu.max", "max 100000\n")
    write(tmp_path / "sys/fs/cgroup/pod/cpu.max", "150000 100000\n")
    assert cpu_quota(tmp_path) == 1.5


def test_cgroup_v1_quota_is_read_also_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n")
    folder = tmp_path / "sys/fs/cgroup/cpu"
    write(folder / "cpu.cfs_quota_us", "300000\n")
    write(folder / "cpu.cfs_period_us", "100000\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "512000000\n")
    assert cpu_quota(tmp_path) == 3.0
    assert memory_limit_mb(tmp_path) == 512.0


RELEASE = "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: x\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"model": "NVIDIA Jetson Nano Developer Kit\0", "release": RELEASE},
            "NVIDIA Jetson Nano Developer Kit, L4T 32.7.1",
        ),
        ({"model": "NVIDIA Orin Nano Developer Kit\0"}, "NVIDIA Orin Nano Developer Kit"),
        ({"release": RELEASE}, "NVIDIA Jetson, L4T 32.7.1"),
        ({"model": "Raspberry Pi 5 Model B Rev 1.0\0"}, None),
        ({}, None),
    ],
    ids=["board", "in a container", "without a device tree", "another board", "no board"],
)
def test_a_jetson_is_known_without_nvidia_smi(
    tmp_path: Path, files: dict[str, str], expected: str | None
) -> None:
    places = {"model": "proc/device-tree/model", "release": "etc/nv_tegra_release"}
    for name, text in files.items():
        write(tmp_path / places[name], text)
    assert jetson(tmp_path) == expected


def test_no_limit_is_none(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "1:cpu:/\n4:memory:/\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert cpu_quota(tmp_path) is None
    assert memory_limit_mb(tmp_path) is None


def test_a_fraction_of_a_core_is_still_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: 0.5)
    assert environment.usable_cores() == 1


@pytest.fixture
def machine() -> Environment:
    return Environment(
        "cpu", ("avx2",), 2, "performance", 8000.0, None, "Linux 6", "3.11", {"numpy": "2.0"}
    )


def test_hash_ignores_memory_and_sees_everything_else(machine: Environment) -> None:
    assert replace(machine, memory_mb=8001.0).hash == machine.hash
    others = [
        replace(machine, cpu_model="other"),
        replace(machine, isa_flags=("avx2", "avx512f")),
        replace(machine, cores=3),
        replace(machine, governor="powersave"),
        replace(machine, gpu="GPU, driver 1"),
        replace(machine, os="Linux 7"),
        replace(machine, python="3.12"),
        replace(machine, libraries={"numpy": "2.1"}),
    ]
    assert len({machine.hash, *(other.hash for other in others)}) == len(others) + 1


def test_round_trip_through_json_keeps_the_hash(machine: Environment) -> None:
    document = json.loads(json.dumps(machine.to_dict()))
    assert document["schema_version"] == 1
    assert Environment.from_dict(document) == machine
    assert Environment.from_dict({**document, "added_later": 1}).hash == machine.hash


def test_this_machine_is_detected_once() -> None:
    found = detect()
    assert found is detect()
    assert found.cores >= 1
    assert found.memory_mb > 0
    assert found.cpu_model
    assert "numpy" in found.libraries


def test_detection_survives_a_platform_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_read", lambda path: "")
    monkeypatch.setattr(environment.platform, "system", lambda: "Windows")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    monkeypatch.delattr(environment.os, "sched_getaffinity", raising=False)
    found = environment.detect.__wrapped__()
    assert found.cores >= 1
    assert found.gpu is None
    assert found.isa_flags == ()


def test_apple_flags_come_from_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "hw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_SME: 0\n"
    monkeypatch.setattr(environment.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(environment, "_run", lambda *command: answer)
    assert environment._fallback_flags() == ("asimd", "i8mm")


def test_gpu_row_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_run", lambda *command: "NVIDIA L4, 550.54.15\n")
    assert environment._gpu() == "NVIDIA L4, driver 550.54.15"


def test_equal_samples_have_no_spread() -> None:
    assert noise_of([0.01] * 9, 0.0).spread_percent == 0.0


def test_spread_is_robust_and_scaled_to_a_standard_deviation() -> None:
    level = noise_of([0.9, 1.0, 1.1, 1.0, 50.0], steal_percent=3.0)
    assert level.spread_percent == pytest.approx(14.826)
    assert "only large differences" in level.note
    assert "3.0%" in level.note


def test_noise_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="No samples"):
        noise_of([], 0.0)


def test_noise_level_ends_by_the_clock() -> None:
    clock = FakeClock(tick_s=0.1)
    level = noise_level(seconds=3.0, clock=clock)
    assert level.spread_percent == pytest.approx(0.0, abs=1e-6)
    assert 3.0 <= clock() < 4.0


def test_steal_is_the_eighth_column_and_guest_time_is_not_counted_twice() -> None:
    assert steal_ticks("cpu  10 0 5 80 1 0 1 3 7 0\ncpu0 1 2 3\n") == (3.0, 100.0)
    assert steal_ticks("") == (0.0, 0.0)
