"""Run by test_frozen.py: under DataParallel, two halves of a batch give the gradients of the whole."""
import numpy as np
import paddle
import paddle.distributed as dist
from test_frozen import batch, build, gradients


def main():
    paddle.set_device("cpu")
    dist.init_parallel_env()
    adaptation, (images, labels) = build("adaptformer"), batch()
    expected = gradients(adaptation, images, labels)
    half = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
    parallel = paddle.DataParallel(adaptation)
    parallel.trained_parameters = adaptation.trained_parameters  # what `gradients` asks for, by name
    found = gradients(parallel, images[half], labels[half])
    for name, grad in expected.items():
        np.testing.assert_allclose(found[name], grad, rtol=1e-4, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    dist.spawn(main, nprocs=2, backend="gloo")
    print("equal")
