"""Import forms that programs of the course use, each in a fresh interpreter at the root."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAMS = {
    "package": """
import needle as ndl
import needle.nn as nn
import needle.init as init
from needle import ops, init, optim, data
from needle import backend_selection
from needle.autograd import Tensor, Value, Op, TensorOp, TensorTuple, TensorTupleOp
import needle.autograd
assert Tensor is ndl.Tensor and ndl.nn is nn and ndl.init is init
assert issubclass(nn.Parameter, Tensor) and ndl.ops.add is ndl.add
assert all(getattr(ops, base.__name__) is base for base in (Value, Op, TensorOp, TensorTupleOp))
assert needle.autograd.TENSOR_COUNTER >= 0
assert backend_selection.BACKEND == "np"
for name in "SGD Adam Optimizer".split():
    assert hasattr(ndl.optim, name)
for name in "Module Parameter Linear Sequential Residual BatchNorm1d LayerNorm1d Dropout".split():
    assert hasattr(nn, name)
""",
    "apps": """
import sys
sys.path.append('./python')
sys.path.append('./apps')
import numpy as np
import needle as ndl
from simple_ml import *
from mlp_resnet import *
first = np.random.rand()
np.random.seed(0)
assert first == np.random.rand()
assert callable(parse_mnist) and callable(nn_epoch) and callable(train_mnist)
model = MLPResNet(4, 4)
assert isinstance(model, nn.Module)
assert ResidualBlock(4, 2)(ndl.init.ones(3, 4)).shape == (3, 4)
""",
    "seed at import": """
import sys
sys.path.insert(0, 'apps')
import numpy as np
np.random.seed(77)
import mlp_resnet
from numpy.random import rand
first = rand()
np.random.seed(0)
assert first == rand()
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_imports_work_and_print_nothing(program):
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
