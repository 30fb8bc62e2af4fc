"""Mixed precision without a GPU: Paddle's own AMP, on a device that is built here out of the CPU."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

HERE = Path(__file__).resolve().parent
PADDLE = Path(paddle.__file__).parent


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A folder with the plugin of device.cc."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("building a device needs Linux and a C++ compiler (apt-get install g++)")
    folder = tmp_path_factory.mktemp("plugins")
    include = PADDLE / "include"
    done = subprocess.run([compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{include}",
                           f"-I{include / 'third_party'}", str(HERE / "device.cc"), f"-L{PADDLE / 'libs'}",
                           "-l:libphi_core.so", "-l:libphi.so", "-l:libcommon.so", "-o", str(folder / "half_cpu.so")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.needs_paddle("plugins of devices")
def test_training_under_amp(plugins):
    """The tests of on_the_device.py, in a process that loads the device: Paddle looks for devices as it starts."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "--tb=short",
                           str(HERE / "on_the_device.py")], capture_output=True, text=True,
                          env={**os.environ, "CUSTOM_DEVICE_ROOT": str(plugins)})
    outcome = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0 and outcome and "passed" in outcome[0] and "skipped" not in outcome[0], \
        done.stdout[-6000:] + done.stderr[-1000:]
