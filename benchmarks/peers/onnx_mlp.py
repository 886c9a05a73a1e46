"""The MLP ResNet as an ONNX graph, run by ONNX Runtime: inference only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

from ..harness import problem


def build(task: str, threads: int | None, **settings: Any) -> Any:
    """The contestant; there is one task."""
    if task != "inference":
        raise ValueError(f"ONNX Runtime does not do {task}")
    return Inference(threads=threads, **settings)


def graph_of(task: problem.Problem) -> bytes:
    """The serialised model: Gemm, BatchNormalization, Relu and Add."""
    nodes: list[Any] = []

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(i: int, x: str) -> str:
        return node("Gemm", x, f"linear{i}.weight", f"linear{i}.bias")

    def norm(i: int, x: str) -> str:
        names = [f"norm{i}.{name}" for name in ("weight", "bias", "mean", "variance")]
        return node("BatchNormalization", x, *names, epsilon=problem.NORM_EPS)

    h = node("Relu", linear(0, "x"))
    for block in range(problem.BLOCKS):
        z = node("Relu", norm(2 * block, linear(1 + 2 * block, h)))
        h = node("Relu", node("Add", norm(2 * block + 1, linear(2 + 2 * block, z)), h))
    result = linear(1 + 2 * problem.BLOCKS, h)
    graph = helper.make_graph(
        nodes,
        "mlp_resnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", problem.PIXELS])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", problem.CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in task.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


class Inference:
    """Logits of one batch as an array, from an array."""

    def __init__(self, path: str, batch: int, threads: int | None) -> None:
        task = problem.read(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph_of(task), options, providers=["CPUExecutionProvider"]
        )
        self._x = np.ascontiguousarray(task.x.reshape(-1, problem.PIXELS)[:batch])

    def run(self, count: int) -> None:
        """`count` calls."""
        for _ in range(count):
            self._session.run(None, {"x": self._x})

    def check(self) -> list[float]:
        """The logits."""
        return self._session.run(None, {"x": self._x})[0].ravel().tolist()
