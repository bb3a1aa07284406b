"""The tutorial is true: exactly its blocks, in their order, in a fresh folder, give what the page says."""

from pathlib import Path

import pytest

from docs.pages import ROOT, blocks, missing, outputs


@pytest.mark.long
def test_the_first_study_runs_as_it_is_written(tmp_path: Path) -> None:
    told = blocks(ROOT / "docs" / "tutorial" / "first-study.md")
    said = outputs(told, tmp_path)
    wrong = {f"line {block.line}": lines for block, lines in missing(told, said)}
    assert not wrong, "\n".join(f"{where}: not seen: {line}" for where, lines in wrong.items() for line in lines)
    assert (tmp_path / "diabetes.safetensors").stat().st_size > 0
