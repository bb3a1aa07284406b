"""The report as a file: written, opened in the browser, shown in a notebook."""

import html
import tempfile
import webbrowser
from pathlib import Path

from consilium.documents.report import Report
from consilium.durable import naming

HEIGHT = 720
"""Of a report that is shown in a notebook, in pixels."""


class Page(Report):
    """A report that can be written and opened. A notebook shows it as the last value of a cell."""

    def write(self, path: str | Path) -> Path:
        """Write the page; the file stands alone. Returns its path.

        Raises: OSError, which names the file.
        """
        to = Path(path)
        with naming(to):
            to.write_text(self.html(), encoding="utf-8")
        return to

    def open(self, path: str | Path | None = None) -> Path:
        """Write the page and open it in this machine's browser; into a file of its own, if no path is given."""
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="consilium-report-")) / f"{self.facts.run}.html"
        written = self.write(path)
        webbrowser.open(written.resolve().as_uri())
        return written

    def _repr_html_(self) -> str:
        """In a frame that runs nothing: the page's styles are not the notebook's."""
        page = html.escape(self.html(), quote=True)
        return (
            f'<iframe sandbox title="Report of {html.escape(self.facts.run)}" srcdoc="{page}" '
            f'style="width:100%;height:{HEIGHT}px;border:1px solid #dfe5ea"></iframe>'
        )
