"""Installation: `pip install .[cpu]` or `pip install .[gpu]`, with `zoo` for PaddleClas's networks."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "ppadapt/version.py").read_text(encoding="utf-8")).group(1)



class WithConfigs(build_py):
    """The wheel has the folder configs inside of the package, where `ppadapt.config.shipped` looks first."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):  # there it is found beside the package
            inside = Path(self.build_lib) / "ppadapt" / "configs"
            shutil.rmtree(inside, ignore_errors=True)  # of an earlier build
            shutil.copytree(HERE / "configs", inside)


setup(
    name="ppadapt",
    version=VERSION,
    description="AdaptFormer for PaddlePaddle: many tasks on one frozen vision transformer",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["ppadapt", "ppadapt.*"]),
    package_data={"ppadapt": ["assets/*", "py.typed", "*.pyi"]},
    cmdclass={"build_py": WithConfigs},
    entry_points={"console_scripts": ["ppadapt=ppadapt.cli:main"]},
    python_requires=">=3.9",
    install_requires=[
        "matplotlib",
        "numpy",
        "pillow",
        "pyyaml",
        "requests",
        "safetensors",
        "scikit-learn",
        "tqdm",
        "visualdl",
    ],
    extras_require={
        "cpu": ["paddlepaddle>=2.6.2"],
        # Builds of 3.x for a GPU are on Paddle's own index alone.
        "gpu": ["paddlepaddle-gpu>=2.6.2"],
        # PaddleClas's networks. It pins numpy 1.24.4, which has no wheel for Python 3.12.
        "zoo": ["paddleclas==2.6.0; python_version < '3.12'"],
        "onnx": ["onnxruntime", "paddle2onnx>=2.0"],
        "openvino": ["openvino>=2024.0", "paddle2onnx>=2.0"],
        "test": ["ipykernel", "mypy==1.19.1", "nbclient", "pytest", "ruff"],
    },
    classifiers=["Programming Language :: Python :: 3"],
)
