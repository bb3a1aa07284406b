"""FHIR resources as tables: a compiler of SQL on FHIR v2 ViewDefinitions, and the NDJSON that it reads."""
