"""From a DICOM data set to the image that a contract wants: (rows, columns), or the flaw for which it is none.

What is taken is named here; everything else that a data set holds, names and dates above all, is left behind. Texts of
pydicom go nowhere: they quote values. https://dicom.nema.org/medical/dicom/current/output/html/part03.html, C.7.6.3.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from consilium.core.contract import Image
from consilium.core.errors import EXTRA, MappingInvalid
from consilium.data.base import Floats
from consilium.data.servers import Flaw

DEFLATED = b"1.2.840.10008.1.2.1.99"
PIXELS = 64 << 20
"""Of an image: what claims more is none."""
SQUARE = 0.01
"""By how much the two distances of pixels may differ."""
LEAST_CUT = 1e-6
"""In pixels: what is less is of rounding."""
ANNOTATED = ("ES", "GM", "OT", "RF", "SC", "US", "XA", "XC")
"""Modalities that write names into the image itself: taken only if the data set says that there are none."""
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture: a screen, whatever its modality says."""


@dataclass(frozen=True)
class Found:
    """One image of a data set, or its flaw. `accession`, `patient` and `study` name them, and go no further than a key.

    order: by which the images of an order follow each other.   pixels: None where there is a flaw, or `passed`: the
    modality or the view is another one than the contract's.
    """

    accession: str
    patient: str
    study: str
    order: tuple[str, ...]
    pixels: Floats | None = None
    flaw: Flaw | None = None
    passed: bool = False


@contextmanager
def quiet() -> Iterator[Any]:
    """pydicom, which neither logs nor warns here: both would quote values. Raises: MappingInvalid: it is not there."""
    try:
        import pydicom
        from pydicom import config
    except ImportError as error:
        raise MappingInvalid("source: DICOM needs pydicom", EXTRA.format("dicom")) from error
    logger, before = logging.getLogger("pydicom"), logging.getLogger("pydicom").disabled
    mode = config.settings.reading_validation_mode
    logger.disabled, config.settings.reading_validation_mode = True, config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom
    finally:
        logger.disabled, config.settings.reading_validation_mode = before, mode


def read(data: bytes, wanted: Image) -> Found | None:
    """The image of a DICOM file, or None: it is no DICOM file, or has been cut."""
    with quiet() as pydicom:
        try:
            dataset = pydicom.dcmread(io.BytesIO(_unpacked(data)))
            texts = {name: _text(dataset, name) for name in ("AccessionNumber", "PatientID", "StudyInstanceUID")}
            if not texts["StudyInstanceUID"] or "SOPClassUID" not in dataset:
                return None
            return _found(dataset, wanted, texts)
        except Exception:  # of a damaged file: whatever its parsers raise, and what they say quotes values
            return None


def _unpacked(data: bytes) -> bytes:
    """The file itself. Raises: ValueError: it is packed as a whole (deflated), and unpacks to more than an image."""
    if DEFLATED in data[132:1156]:
        begins = 144 + int.from_bytes(data[140:144], "little")  # after the group whose length stands first in it
        opened = zlib.decompressobj(-zlib.MAX_WBITS)
        opened.decompress(data[begins:], 3 * PIXELS)
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError
    return data


def _found(dataset: Any, wanted: Image, texts: dict[str, str]) -> Found:
    order = tuple(_text(dataset, name) for name in ("AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"))
    order += (_text(dataset, "InstanceNumber").zfill(12), _text(dataset, "SOPInstanceUID"))
    who = (texts["AccessionNumber"], texts["PatientID"], texts["StudyInstanceUID"], order)
    modality, view = _text(dataset, "Modality"), _text(dataset, "ViewPosition")
    if modality not in wanted.modality or (wanted.view and view and view not in wanted.view):
        return Found(*who, passed=True)
    flaw = _flaw(dataset, wanted, modality, view)
    if flaw is not None:
        return Found(*who, flaw=flaw)
    pixels, flaw = _pixels(dataset, wanted)
    return Found(*who, pixels=pixels, flaw=flaw)


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip()


def _flaw(dataset: Any, wanted: Image, modality: str, view: str) -> Flaw | None:
    """The first flaw that its attributes tell."""
    burned = _text(dataset, "BurnedInAnnotation")
    screen = modality in ANNOTATED or _text(dataset, "SOPClassUID").startswith(SECONDARY)
    if burned == "YES" or (screen and burned != "NO"):
        return "burned-in"
    if int(_text(dataset, "NumberOfFrames") or 1) != 1:
        return "frames"
    if _text(dataset, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        return "photometric"
    if wanted.view and not view:
        return "view"
    if wanted.spacing_mm is not None and not _spaced(dataset, wanted.spacing_mm):
        return "spacing"
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    smaller = rows < wanted.rows or columns < wanted.columns
    if (
        rows * columns > PIXELS
        or smaller
        or (wanted.resize == "no" and (rows, columns) != (wanted.rows, wanted.columns))
    ):
        return "size"
    if "ModalityLUTSequence" in dataset:
        return "rescale"
    return None


def _spaced(dataset: Any, allowed: tuple[float, float]) -> bool:
    given = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    if given is None or len(given) != 2:
        return False
    first, second = float(given[0]), float(given[1])
    return all(allowed[0] <= one <= allowed[1] for one in (first, second)) and abs(first - second) <= SQUARE * first


def _pixels(dataset: Any, wanted: Image) -> tuple[Floats | None, Flaw | None]:
    turns = _turns(dataset, wanted)
    if turns is None:
        return None, "orientation"
    try:
        stored = np.asarray(dataset.pixel_array, dtype=np.float64)
    except Exception:  # cut, or compressed in a way that is not known here
        return None, "pixels"
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    least = -(2.0 ** (bits - 1)) if signed else 0.0
    most = least + 2.0**bits - 1
    if stored.shape != (int(dataset.Rows), int(dataset.Columns)) or stored.min() < least or stored.max() > most:
        return None, "pixels"
    if _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":  # the least value is white
        stored = most + least - stored
    if wanted.values == "fraction":
        values = (stored - least) / (most - least)
    else:
        slope, intercept = dataset.get("RescaleSlope", 1.0), dataset.get("RescaleIntercept", 0.0)
        if slope is None or intercept is None or float(slope) == 0:
            return None, "rescale"
        values = stored * float(slope) + float(intercept)
    if not np.all(np.isfinite(values)):
        return None, "rescale"
    return smaller(values[:: turns[0], :: turns[1]], wanted.rows, wanted.columns, wanted.resize == "crop"), None


def _turns(dataset: Any, wanted: Image) -> tuple[int, int] | None:
    """Steps along rows' and columns' places: -1 where the image is mirrored; None: its orientation is another one."""
    if wanted.orientation is None:
        return 1, 1
    given = dataset.get("PatientOrientation")
    told = tuple(str(one)[:1] for one in given) if given is not None and len(given) == 2 else ()
    across, down = wanted.orientation
    if not told or told[0] not in ("L", "R") or told[1] not in ("H", "F"):
        return None
    return (1 if told[1] == down else -1), (1 if told[0] == across else -1)


def smaller(image: Floats, rows: int, columns: int, alike: bool = False) -> Floats:
    """An image of so many rows and columns: each value is the mean over its area, and of the same size it is the same.

    Args:    alike: both directions by one factor: what that leaves over of one lies half at either end, and is cut off.

    >>> smaller(np.array([[1.0, 3.0], [5.0, 7.0]]), 1, 2)
    array([[3., 5.]])
    >>> smaller(np.array([[9.0, 1.0, 3.0, 9.0], [9.0, 5.0, 7.0, 9.0]]), 1, 1, alike=True)
    array([[4.]])
    """
    if image.shape == (rows, columns):
        return np.ascontiguousarray(image)
    down, across = image.shape[0] / rows, image.shape[1] / columns
    if alike:
        down = across = min(down, across)
    return _shares(image.shape[0], rows, down) @ image @ _shares(image.shape[1], columns, across).T


def _shares(given: int, wanted: int, each: float) -> Floats:
    """(wanted, given): what part of each place's mean each given place has; each is of so many given ones."""
    over = given - wanted * each
    edges = np.arange(wanted + 1) * each + (over / 2 if over > LEAST_CUT else 0.0)
    low, high = edges[:-1, None], edges[1:, None]
    at = np.arange(given)[None, :]
    overlap = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0.0, None)
    found: Floats = overlap / overlap.sum(axis=1, keepdims=True)
    return found
