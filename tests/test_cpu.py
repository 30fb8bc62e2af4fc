"""The switches of ppadapt.cpu: what is set, when, and that a user's own choice stays."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppadapt import cpu, paddle_compat

linux = pytest.mark.skipif(sys.platform != "linux", reason="the switches are for Linux")
SHOW = ("import ppadapt, os; "
        "print([os.environ.get(n) for n in ('MKL_DEBUG_CPU_TYPE', 'MKL_NUM_THREADS', 'FLAGS_use_stride_kernel')])")


def run(code, **environment):
    """What a fresh Python prints, without the switches that this process, or Paddle in it, has set."""
    clean = {n: v for n, v in os.environ.items()
             if not n.startswith(("MKL_", "OMP_", "PPADAPT_NO_")) and n != "FLAGS_use_stride_kernel"}
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def shown(**environment):
    return eval(run(SHOW, **environment))


@linux
def test_the_switches_are_set_before_paddle_is_imported():
    amd, threads, stride = shown()
    assert amd == ("5" if cpu._is_amd() else None)
    assert threads == str(cpu.cores())
    assert stride == (None if os.path.exists("/dev/nvidiactl") else "0")


@pytest.mark.skipif(not paddle_compat.BEFORE_3, reason="Paddle 3 keeps its zlib to itself")
def test_scikit_learn_can_be_imported_after_paddle():
    assert run("import ppadapt, paddle, sklearn.datasets; print('alive')") == "alive"


@linux
def test_a_users_own_values_stay():
    assert shown(OMP_NUM_THREADS="1")[1] is None
    assert shown(MKL_NUM_THREADS="3")[1] == "3"
    assert shown(MKL_DEBUG_CPU_TYPE="4", FLAGS_use_stride_kernel="1")[::2] == ["4", "1"]


@linux
def test_every_switch_can_be_turned_off():
    assert shown(PPADAPT_NO_MKL_SWITCH="1", PPADAPT_NO_THREADS_SWITCH="1", PPADAPT_NO_STRIDE_SWITCH="1",
                 PPADAPT_NO_MALLOC_SWITCH="1") == [None, None, None]


@linux
@pytest.mark.parametrize("most, expected", [(1 << 40, 1 << 30), (32 << 20, 32 << 20)])
def test_large_buffers_are_kept_with_and_without_glibcs_limit(most, expected, monkeypatch):
    """mallopt(3) names 32 MiB as the limit, which newer ones no longer hold to."""
    class Libc:
        threshold = 128 << 10

        def mallopt(self, what, value):
            if what != cpu._M_MMAP_THRESHOLD:
                return 1
            if value <= most:
                self.threshold = value
            return int(value <= most)

    libc = Libc()
    monkeypatch.setattr(cpu, "_glibc", lambda: libc)
    cpu.prepare()
    assert libc.threshold == expected


@linux
@pytest.mark.parametrize("files, quota", [
    ({"cpu.max": "150000 100000"}, 2), ({"cpu.max": "50000 100000"}, 1), ({"cpu.max": "max 100000"}, 64),
    ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64), ({}, 64)])
def test_a_containers_quota_counts(files, quota, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu.cores(tmp_path) == quota


@linux
def test_all_cores_multiply():
    """Paddle leaves MKL, which multiplies its matrices, with one thread: MKL itself says how many it would use."""
    libraries = Path(pytest.importorskip("paddle").__file__).parent / "libs"
    if not (libraries / "libmklml_intel.so").is_file():
        pytest.skip(f"this paddle multiplies with something else: {libraries} has no MKLML")
    ask = ("import ctypes, ppadapt, paddle; paddle.matmul(paddle.ones([8, 8]), paddle.ones([8, 8])); "
           f"print(ctypes.CDLL({str(libraries / 'libmklml_intel.so')!r}).MKL_Get_Max_Threads())")
    assert run(ask) == str(cpu.cores())
    assert run(ask, OMP_NUM_THREADS="1") == "1"
