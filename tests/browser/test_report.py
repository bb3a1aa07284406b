"""A report in a real browser: it asks for nothing, it can be read by ear and key, and what is wrong is seen first."""

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from consilium.documents.report import Report
from e2e.processes import CONSILIUM, environment
from unit.documents.runs import STUDY, baseline, evaluation, gap, judged, result, simulated, usual, worth

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HIGH = 900
Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    """Opens a report, and fails if it asked for anything but itself or complained."""
    pages, asked, said = [], list[str](), list[str]()

    def open_(report: Report, policy: bool = True) -> Page:
        path = tmp_path / "report.html"
        path.write_text(report.html(), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1280, "height": HIGH}, bypass_csp=not policy)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert set(asked) <= {(tmp_path / "report.html").as_uri()} and said == []


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


PLANTED = {"useless": judged(0.0, seed=4), "swapped": judged(-1.2), "leaky": judged(4.0), **usual(8)}
WHOLE = Report.of(result(usual(4)), NOW, STUDY, baseline({"site-01": judged(3.0), "site-02": judged(1.0)}))


def test_it_asks_for_nothing_and_nothing_bars_a_reader(opened: Opened) -> None:
    page = opened(WHOLE, policy=False)  # axe is a script, which the page's own policy would not let run
    assert serious(page) == []
    assert page.locator("svg").count() == page.get_by_role("img").count() == 6
    assert opened(WHOLE).locator("h1").inner_text() == STUDY.title


@pytest.mark.long
def test_a_checker_that_finds_nothing_would_be_no_checker(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<html><body><img src='data:,'><p style='color:#eee'>pale</p></body></html>")
    assert len(serious(page)) >= 2
    page.close()


def test_what_is_wrong_is_on_the_first_screen(opened: Opened) -> None:
    page = opened(Report.of(simulated(PLANTED), NOW, STUDY))
    for ident in ("warning-worst-hospital", "warning-swapped-classes", "warning-too-good"):
        box = page.locator(f"#{ident}").bounding_box()
        assert box is not None and box["y"] + box["height"] <= HIGH, ident


def test_four_wrongs_at_once_are_all_on_the_first_screen(opened: Opened) -> None:
    """A leak, a miscalibrated hospital, a group that is served worse, and a label the wrong way round."""
    sites = {**usual(6), "swapped": judged(-1.2)}
    document = simulated(sites)
    document["hospitals"]["site-03"] |= {"copies": 25, "elsewhere": 0}
    worths = {site: worth(large=0.8 if site == "site-02" else 0.0) for site in usual(6)}
    turned = worth()
    turned["figures"] |= judged(-1.2)
    last = evaluation(
        {**worths, "swapped": turned}, {"icu": worth(), "other": worth()}, [gap("icu", "auroc", -0.3, True)]
    )
    page = opened(Report.of({**document, "evaluation": last}, NOW, STUDY))
    for ident in ("swapped-classes", "leak", "miscalibrated", "unfair-groups"):
        box = page.locator(f"#warning-{ident}").bounding_box()
        assert box is not None and box["y"] + box["height"] <= HIGH, ident


@pytest.mark.long
def test_no_page_is_wider_than_its_screen(opened: Opened) -> None:
    page = opened(WHOLE)
    for wide in (360, 768, 1280):
        page.set_viewport_size({"width": wide, "height": HIGH})
        assert page.evaluate("document.documentElement.scrollWidth") <= wide


@pytest.mark.long
def test_on_paper_all_that_is_folded_is_open(opened: Opened) -> None:
    page = opened(WHOLE)
    folded = page.locator("#rounds-table")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible() and not page.locator("nav").is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_hostile_name_runs_nothing(opened: Opened) -> None:
    """Without the page's policy, which would bar it anyway."""
    word = "<img src=x onerror=document.title=1><script>document.title=2</script>"
    sites = {f"{word}{number}": one for number, one in enumerate(usual(3).values())}
    page = opened(Report.of(result(sites), NOW, STUDY), policy=False)
    page.wait_for_timeout(50)
    assert page.title().startswith(STUDY.title) and page.locator("img, script").count() == 0


@pytest.mark.long
def test_a_study_of_twenty_hospitals_is_simulated_and_opened(opened: Opened, tmp_path: Path) -> None:
    def consilium(*words: object) -> Any:
        done = subprocess.run([CONSILIUM, *words], env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = tmp_path / "hospitals"
    consilium("demo", "--prepare", made)
    words = ["--sites", "20", "--partition", "dirichlet:2", "--patients", "8000"]
    told = json.loads(consilium("simulate", made / "study.yaml", "--hospitals", made, *words, "--json"))
    page = opened(Report.of(told, NOW), policy=False)
    assert serious(page) == []
    assert page.locator("#figures tbody tr").count() == 21
    assert page.locator("#flow-table tbody tr").count() == 21
    assert page.locator("#worth svg").count() == page.locator("#rounds svg").count() == 1
    assert page.locator("#flow svg").count() == 2
