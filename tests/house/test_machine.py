"""What a process may have of its machine: fake trees of /proc and control groups; macOS and Windows by simulation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from vitsmith import machine
from vitsmith.engines.torch.engine import TorchEngine
from vitsmith.machine import (
    available_cores,
    bf16_dot_products,
    describe_machine,
    free_memory,
    int8_dot_products,
    load_average,
    peak_memory,
    processor_flags,
    resident_memory,
    total_memory,
)
from vitsmith.models import build
from vitsmith.training.memory import plan as memory

GIB = 2**30
NO_LIMIT = 9223372036854771712
"""What v1 writes for none."""


class Tree:
    """A fake /proc and /sys/fs/cgroup on a machine of 64 cores and 100 GiB, 60 of them free."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.groups.mkdir()

    def belongs_to(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("\n".join(lines) + "\n")

    def has(self, group: str, **values: object) -> None:
        """Files of a group: `memory_max=...` is memory.max."""
        (self.groups / group).mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (self.groups / group / name.replace("_", ".", 1)).write_text(f"{value}\n")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    monkeypatch.setattr(machine, "PROC", tree.proc)
    monkeypatch.setattr(machine, "CGROUPS", tree.groups)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB, available=60 * GIB))
    machine._processor.cache_clear()
    yield tree
    monkeypatch.undo()
    machine._processor.cache_clear()


def test_the_names_of_gpus_are_those_of_the_driver(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.visible_gpus() == ""
    for number in (1, 2):
        place = tree.proc / "driver" / "nvidia" / "gpus" / f"0000:0{number}:00.0"
        place.mkdir(parents=True)
        (place / "information").write_text(f"Model: \t\t NVIDIA H{number}00\nIRQ:   \t\t 33\n")
    assert machine.visible_gpus() == "NVIDIA H100, NVIDIA H200"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.visible_gpus() == "NVIDIA H100, NVIDIA H200 (CUDA_VISIBLE_DEVICES=1)"


# --- control groups ---------------------------------------------------------------------------------------------------


def test_without_control_groups_the_machine_is_the_limit(tree: Tree) -> None:
    assert (available_cores(), total_memory(), free_memory()) == (64, 100 * GIB, 60 * GIB)


@pytest.mark.parametrize(
    ("told", "cores"),
    [("100000 100000", 1), ("150000 100000", 2), ("10000 100000", 1), ("6400000 50000", 64), ("max 100000", 64)],
)
def test_a_quota_of_processor_time_is_rounded_up_to_cores(tree: Tree, told: str, cores: int) -> None:
    tree.belongs_to("0::/")
    tree.has(".", cpu_max=told)
    assert available_cores() == cores


def test_of_nested_groups_the_tightest_counts(tree: Tree) -> None:
    tree.belongs_to("0::/kubepods/pod1/box")
    tree.has("kubepods", cpu_max="800000 100000", memory_max=50 * GIB, memory_current=45 * GIB)
    tree.has("kubepods/pod1", cpu_max="250000 100000", memory_max=8 * GIB, memory_current=5 * GIB)
    tree.has("kubepods/pod1/box", cpu_max="max 100000", memory_max="max", memory_current=GIB)
    tree.has("kubepods/pod2", cpu_max="100000 100000", memory_max=1, memory_current=0)
    assert (available_cores(), total_memory(), free_memory()) == (3, 8 * GIB, 3 * GIB)
    tree.has("kubepods", memory_current=49 * GIB)
    assert free_memory() == GIB


def test_cached_files_of_a_group_are_free(tree: Tree) -> None:
    tree.belongs_to("0::/job")
    tree.has("job", memory_max=4 * GIB, memory_current=4 * GIB, memory_stat=f"anon 1\ninactive_file {3 * GIB}\nfile 5")
    assert free_memory() == 3 * GIB
    tree.has("job", memory_current=5 * GIB, memory_stat="anon 1")
    assert free_memory() == 0, "not less than nothing"


def test_the_first_version_has_a_tree_for_each_controller(tree: Tree) -> None:
    tree.belongs_to("9:name=systemd:/a", "4:memory:/a/b", "3:cpu,cpuacct:/c", "2:cpuset:/", "0::/")
    tree.has("cpu,cpuacct/c", cpu_cfs_quota_us=120_000, cpu_cfs_period_us=50_000)
    tree.has("memory", memory_limit_in_bytes=NO_LIMIT, memory_usage_in_bytes=70 * GIB)
    tree.has("memory/a", memory_limit_in_bytes=6 * GIB, memory_usage_in_bytes=5 * GIB)
    tree.has("memory/a/b", memory_limit_in_bytes=NO_LIMIT, memory_usage_in_bytes=5 * GIB)
    tree.has("memory/a", memory_stat=f"total_inactive_file {GIB}")
    assert (available_cores(), total_memory(), free_memory()) == (3, 6 * GIB, 2 * GIB)
    tree.has("cpu,cpuacct/c", cpu_cfs_quota_us=-1)
    assert available_cores() == 64


@pytest.mark.parametrize("path", ["/docker/4f2a", "/../../elsewhere"])
def test_a_container_that_is_shown_only_its_own_group_finds_its_limits(tree: Tree, path: str) -> None:
    tree.belongs_to(f"0::{path}")
    tree.has(".", cpu_max="200000 100000", memory_max=2 * GIB, memory_current=GIB)
    assert (available_cores(), total_memory(), free_memory()) == (2, 2 * GIB, GIB)


def test_a_group_that_says_nonsense_limits_nothing(tree: Tree) -> None:
    tree.belongs_to("0::/", "nonsense", "")
    tree.has(".", cpu_max="much", memory_max="lots", memory_current="", memory_stat="?")
    assert (available_cores(), free_memory()) == (64, 60 * GIB)


def test_training_plans_with_what_the_group_leaves(tree: Tree) -> None:
    tree.belongs_to("0::/")
    tree.has(".", memory_max=3 * GIB, memory_current=GIB)
    expected = 0.9 * (2 * GIB + resident_memory())
    assert memory.available_memory(torch.device("cpu")) == pytest.approx(expected, rel=0.01)


def test_torch_computes_with_no_more_threads_than_the_quota_has_cores(tree: Tree) -> None:
    from tests.tiny import CONFIGS, tiny_model
    from vitsmith.weights.bundle.bundle import Bundle

    bundle, before = Bundle.of(tiny_model(CONFIGS["vit-token"])), torch.get_num_threads()
    tree.belongs_to("0::/")
    try:
        torch.set_num_threads(5)
        TorchEngine(bundle)
        assert torch.get_num_threads() == 5
        tree.has(".", cpu_max="200000 100000")
        TorchEngine(bundle)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_model_is_built_where_memory_is_bounded_only_if_it_fits(tree: Tree) -> None:
    from tests.tiny import CONFIGS
    from vitsmith.errors import ConfigError

    config = CONFIGS["vit-token"]
    assert build.build(config).config == config
    tree.belongs_to("0::/")
    tree.has(".", memory_max=100, memory_current=0)
    with pytest.raises(ConfigError, match=r"weights needs 0 GiB and this process may have 0 GiB of memory"):
        build.build(config)


# --- the processor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "int8", "bf16"),
    [
        ("model name\t: Old\nflags\t\t: fpu avx2\n\nflags\t\t: avx512_vnni\n", False, False),
        ("model name\t: New\nflags\t\t: fpu avx_vnni avx512_bf16\n", True, True),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", True, False),
        ("nothing\n", None, None),
        (None, None, None),
    ],
)
def test_what_the_processor_can_is_read_from_its_flags(
    tree: Tree, text: str | None, int8: bool | None, bf16: bool | None
) -> None:
    if text is not None:
        (tree.proc / "cpuinfo").write_text(text)
    assert (int8_dot_products(), bf16_dot_products()) == (int8, bf16)
    assert ("fpu" in processor_flags()) == (text is not None and "fpu" in text)
    assert describe_machine().endswith(", 64 cores")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 25, model 17)"),
        ("cpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R) 8488C\n", "Intel(R) Xeon(R) 8488C"),
    ],
)
def test_processors_that_hide_their_number_are_told_apart(tree: Tree, text: str, name: str) -> None:
    (tree.proc / "cpuinfo").write_text(text)
    assert describe_machine() == f"{name}, 64 cores"


def test_macos_names_its_processor_and_what_it_can(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        ("-n", "machdep.cpu.brand_string"): "Apple M2 Pro\n",
        ("hw.optional",): "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\nhw.optional.neon: 1\n",
    }

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(stdout=said[tuple(command[1:])])

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(subprocess, "run", run)
    assert describe_machine() == "Apple M2 Pro, 12 cores"
    assert (int8_dot_products(), bf16_dot_products()) == (True, False)


def test_macos_without_sysctl_says_what_python_knows(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sysctl(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "sysctl")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", no_sysctl)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert describe_machine() == "arm, 64 cores" and int8_dot_products() is None


def test_windows_names_its_processor_and_the_cores_of_the_process(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Any = ModuleType("winreg")
    registry.HKEY_LOCAL_MACHINE = 0
    registry.OpenKey = lambda _, path: nullcontext() if path.endswith(r"CentralProcessor\0") else None
    registry.QueryValueEx = lambda _, name: ("AMD Ryzen 9 7950X ", 1) if name == "ProcessorNameString" else None
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_affinity=lambda: [0, 1, 4, 5]))
    assert describe_machine() == "AMD Ryzen 9 7950X, 4 cores"
    assert int8_dot_products() is None


# --- this process -----------------------------------------------------------------------------------------------------


def test_the_peak_is_never_below_what_is_held_now() -> None:
    held = psutil.Process().memory_info().rss
    assert resident_memory() == pytest.approx(held, rel=0.2)
    assert peak_memory() >= 0.9 * held
    assert load_average() >= 0


def test_the_peak_is_known_without_proc(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_memory() >= 0.9 * psutil.Process().memory_info().rss  # macOS: by getrusage
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has none
    info = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(psutil, "Process", lambda: info)
    assert peak_memory() == 123
