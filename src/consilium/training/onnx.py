"""Runs ONNX graphs on the processor."""

import os
from typing import Any


def runtime(data: bytes) -> Any:
    """A session that runs a graph: one thread, no words on patients in a log, nothing told to anybody.

    Releases of onnxruntime from 1.29 on tell their maker of each session unless that variable is set before they are
    loaded; the extra asks for an earlier one, which has no code that could.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    asked = onnxruntime.SessionOptions()
    asked.intra_op_num_threads = asked.inter_op_num_threads = 1
    asked.log_severity_level = 4
    asked.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(data, asked, providers=["CPUExecutionProvider"])
