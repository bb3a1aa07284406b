"""Chest X-rays of ../shared/data/medmnist, wrapped as DICOM with identifiers that must appear nowhere else."""

import io
from pathlib import Path
from typing import Any

import numpy as np

MEDMNIST = Path(__file__).parents[3] / "shared/data/medmnist/pneumoniamnist_28_reconstructed.npz"
PLANTED = ("Zwiebelmeyer", "PID-7731-", "19470813", "ACC-5523-", "Dr. Querulus", "Hauptstrasse 99")
"""Name, patient id, birth date, accession number, physician, address: of every image."""
ROOT = "1.2.826.0.1.3680043.10.1234"


def xrays(count: int, seed: int, share: float = 0.5) -> tuple[Any, Any]:
    """Images (count, 28, 28) and labels, `share` of them with pneumonia."""
    with np.load(MEDMNIST) as found:
        images, labels = found["train_images"], found["train_labels"].reshape(-1)
    chance = np.random.default_rng(seed)
    sick = chance.choice(np.flatnonzero(labels == 1), round(count * share), replace=False)
    well = chance.choice(np.flatnonzero(labels == 0), count - len(sick), replace=False)
    order = chance.permutation(np.concatenate([sick, well]))
    return images[order], labels[order]


def dicom(pixels: Any, number: int, **changes: Any) -> bytes:
    """One computed radiograph, named by its number; `changes` are attributes, of which None takes one away."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    image = np.asarray(pixels)
    made, bits = Dataset(), 8 * image.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage, "SOPInstanceUID": f"{ROOT}.{number}.1.1",
        "StudyInstanceUID": f"{ROOT}.{number}", "SeriesInstanceUID": f"{ROOT}.{number}.1", "Modality": "CR",
        "PatientName": f"Zwiebelmeyer^{number}", "PatientID": f"PID-7731-{number}", "PatientBirthDate": "19470813",
        "AccessionNumber": f"ACC-5523-{number}", "ReferringPhysicianName": "Dr. Querulus",
        "PatientAddress": "Hauptstrasse 99", "StudyDate": "20250102", "ContentDate": "20250102",
        "ContentTime": "080000", "InstanceNumber": "1", "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"], "PixelSpacing": [2.0, 2.0],
        "Rows": image.shape[0], "Columns": image.shape[1], "SamplesPerPixel": 1, "BurnedInAnnotation": "NO",
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(image.dtype.kind == "i"), "PixelData": image.tobytes(),
    }  # fmt: skip
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(made, name, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def labels(path: Path, numbers: list[int], sick: Any) -> None:
    """The hospital's table: patient, accession number, report."""
    rows = [f"PID-7731-{number},ACC-5523-{number},{one}" for number, one in zip(numbers, sick)]
    path.write_text("\n".join(["patient_no,accession_no,pneumonia", *rows]) + "\n")
