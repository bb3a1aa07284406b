"""Codes of errors name one class each, whatever else is imported."""

from consilium.core import errors
from consilium.site.child import Died


def test_a_class_without_a_code_of_its_own_takes_nobodys_place() -> None:
    assert Died.code == "training-failed"
    assert errors.every()["training-failed"] is errors.TrainingFailed
    assert all(kind.code == code for code, kind in errors.every().items())
