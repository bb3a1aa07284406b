"""A model that lies here as safetensors, written anew in another form, with the origin that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilium.core.errors import Invalid
from consilium.core.ids import digest
from consilium.durable import naming


def written(source: Path, form: str, file: Path) -> dict[str, Any]:
    """Write it to `file`; what `study export` says of it.

    Raises: Invalid: it is no such model, or has no form in ONNX here.   Refused: the extra `onnx` is not installed.
    """
    if form != "onnx":
        raise Invalid(f"{source.name} is safetensors already", "write --format onnx, or copy it")
    from consilium.exported import Exported  # with numpy, which other commands need not
    from consilium.onnxfile import to_onnx

    model = Exported.read(source)
    data = to_onnx(model)
    with naming(file):
        file.write_bytes(data)
    return {"file": str(file), "format": form, "digest": digest(data), "metadata": model.metadata}


def whose(told: Mapping[str, str]) -> str:
    """What is to be known of a model by its file's metadata: that hospitals use others, where they do; else empty."""
    from consilium.core.study import Plan

    if "personal" in told or not Plan.load(told["payload"].encode()).study.personal:
        return ""
    return (
        "\nIt is the common model: each hospital uses one of its own, which lies in its folder `models`. Of parts that "
        "stay there this file has the first values, which nobody trained."
    )
