"""DICOM images as a hospital's table: from a folder or by DICOMweb, without anything that names a patient."""
