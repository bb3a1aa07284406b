"""A model that lies here as safetensors, written anew in another form, with the origin that it names."""

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
