"""onnxruntime, as the hub uses it. Import at first use: it takes half a second."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.capi import onnxruntime_pybind11_state as state

_FATAL = 4
_LONGEST_REASON = 300

# The library's own errors have no common base but Exception.
_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)


class OnnxError(Exception):
    """onnxruntime refused a model or its inputs; the reason, in one line."""


def open_session(model: bytes, threads: int) -> InferenceSession:
    """A session of the serialized `model` on the CPU, which runs on up to `threads` threads.

    Sessions may be run by several threads at once.

    Raises:
        OnnxError: it is no ONNX model, or one that this onnxruntime cannot run.
    """
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take the cores from the other sessions and the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What goes wrong is raised; standard error is not the place to repeat it.
    options.log_severity_level = _FATAL
    try:
        return InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _ERRORS as error:
        raise OnnxError(_reason(error)) from error


def run_session(
    session: InferenceSession, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]
) -> list[Any]:
    """The named outputs, in their order.

    Raises:
        OnnxError: the model failed on these inputs.
    """
    try:
        return list(session.run(list(outputs), dict(inputs)))
    except _ERRORS as error:
        raise OnnxError(_reason(error)) from error


def _reason(error: Exception) -> str:
    reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"
