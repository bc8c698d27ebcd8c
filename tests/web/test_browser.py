"""The page in a real Chromium: what is wrong is seen, all works by keys, nothing becomes HTML.

Needs `pip install titans-stream[browser]` and Debian's chromium (or CHROMIUM=/path); without them
these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.plant import HOSTILE, WORDS, plant
from tests.web.samples import connector, later, service
from tests.web.served import Site, served
from tests.web.test_api import Told
from titans_stream.web.security import Access
from titans_stream.yaml_loading import load_yaml

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright: titans-stream[browser]")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe: titans-stream[browser]"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
OIL = "vienna/press-7/oil"
PATIENCE_MS = 60_000
WIDE = {"width": 1440, "height": 900}
PAGES = ("/", "/series", f"/series/view?id={OIL}", "/health")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(plant(tmp_path_factory.mktemp("plant"), Told())) as running:
        yield running


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    yield from opened(browser, site, viewport=WIDE)


def opened(
    browser: Any, site: Site, allowed: tuple[str, ...] = (), **settings: Any
) -> Iterator[Any]:
    """A page that fails the test for any error, refusal of the policy or dialog but `allowed`."""
    context = browser.new_context(base_url=site.address, accept_downloads=True, **settings)
    one = context.new_page()
    one.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    one.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield one
    context.close()
    assert not [text for text in wrong if not any(one in text for one in allowed)]


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds; Playwright's own way would need the policy to allow eval."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def test_the_gravest_is_seen_first_and_all_goes_by_keys(page: Any, site: Site) -> None:
    page.goto("/")
    page.wait_for_selector("article.incident")
    first = page.locator("article.incident").first
    assert "vienna/press-7" in first.inner_text() and "oil" in first.inner_text()
    assert page.locator("h1").inner_text().startswith("4 open")
    page.wait_for_selector("aside .uplot canvas")
    assert "is normal" in page.locator("aside .sentence").inner_text()
    page.keyboard.press("j")
    until(page, "location.search.includes('alert=')")
    assert page.locator(".row.chosen").count() == 1
    page.wait_for_selector("aside h2:has-text('current')")
    page.keyboard.press("f")
    page.wait_for_selector(".row.chosen .said:has-text('false alarm')")
    control = site.service._control
    assert isinstance(control, Told)
    assert control.sent[-1][1].verdict == "false_alarm"
    page.reload()
    page.wait_for_selector("aside h2:has-text('current')")
    page.keyboard.press("2")
    page.wait_for_selector("table.series tbody tr")
    page.keyboard.press("/")
    page.keyboard.type("MILL flow")
    until(page, "document.querySelectorAll('table.series tbody tr').length === 1")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('graz/mill-2/flow')")
    page.go_back()
    until(page, "document.querySelector('input[type=search]')?.value === 'MILL flow'")


@pytest.fixture
def suspicious(browser: Any, site: Site) -> Iterator[Any]:
    """A page for which unknown series, and attempts to make HTML, are refused."""
    allowed = ("status of 404", "requires 'TrustedHTML' assignment. The action has been blocked")
    yield from opened(browser, site, allowed, viewport=WIDE)


def test_no_value_of_a_message_becomes_html(suspicious: Any) -> None:
    page = suspicious
    addresses = [
        "/", "/series", *(f"/series/view?id={quote(name, safe='')}" for name in HOSTILE),
        *(f"/alert?id=harm-{i}" for i in range(len(HOSTILE))), "/?q=%3Cimg%20src%3Dx%20onerror%3D1",
        "/series/view?id=" + quote("<script>window.harm=1</script>"),
    ]  # fmt: skip
    for address in addresses:
        page.goto(address)
        until(page, "document.querySelector('main').children.length > 0")
        page.wait_for_timeout(300)  # what would do harm may do it late
        assert page.evaluate("window.harm") is None, address
        assert page.locator("main img, main script, main b, main iframe").count() == 0, address
        assert page.locator("main [onerror], main [onload], main [onmouseover]").count() == 0
    page.goto("/alert?id=harm-0")
    page.wait_for_selector(".sentence")
    assert page.locator(".sentence").inner_text() == WORDS, "shown as it is"
    assert HOSTILE[0] in page.locator("h1").inner_text()
    # even if a script of the page tried, the browser would refuse
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'done' }"
        " catch (error) { return error.name } }"
    )
    assert refused == "TypeError"


def test_the_address_is_the_state_of_a_series(page: Any, site: Site) -> None:
    page.goto(f"/series/view?id={OIL}")
    canvas = page.locator(".chart .u-over").first
    canvas.wait_for()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
    page.mouse.up()
    until(page, "new URLSearchParams(location.search).get('from') !== null")

    def shown() -> tuple[float, float]:
        found = page.evaluate(
            "[...new URLSearchParams(location.search)].filter(([k]) => k === 'from' || k === 'to')"
        )
        return float(found[0][1]), float(found[1][1])

    begin, end = shown()
    readings = site.get("/v1/readings", series=OIL).json["time"]
    length = readings[-1] - readings[0]
    assert (end - begin) == pytest.approx(0.3 * length, rel=0.05)
    page.reload()
    page.locator(".chart .u-over").first.wait_for()
    assert shown() == (begin, end)
    page.locator(".chart").first.focus()
    page.keyboard.press("ArrowRight")
    moved = shown()
    assert moved[0] > begin and moved[1] - moved[0] == pytest.approx(end - begin, rel=0.01)
    page.keyboard.press("+")
    assert shown()[1] - shown()[0] == pytest.approx(0.7 * (end - begin), rel=0.01)
    page.keyboard.press("0")
    until(page, "new URLSearchParams(location.search).get('from') === null")
    page.get_by_role("button", name="surprise").click()
    until(page, "location.search.includes('below=surprise')")


def test_what_if_shows_alerts_before_and_after_and_gives_the_rule(
    page: Any, site: Site, tmp_path: Path
) -> None:
    page.goto(f"/series/view?id={OIL}")
    page.get_by_label("Least deviation", exact=True).fill("50")
    page.get_by_role("button", name="Try").click()
    page.wait_for_selector(".answer .result")
    told = page.locator(".answer .result").inner_text()
    asked = {"series_id": OIL, "rule": {"min_deviation": 50}}
    expected = site.post("/v1/what-if", asked).json
    before, after = (len(expected[part]["episodes"]) for part in ("before", "after"))
    assert before > after == 0
    assert told.startswith(
        f"{before} alert{'s' * (before > 1)} with the present rules, {after} with these"
    )
    assert page.locator(".answer tr.gone").count() == before
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the YAML").click()
    file = tmp_path / "rule.yaml"
    download.value.save_as(file)
    rule = load_yaml(file, {}).data["alerts"]["rules"][0]
    assert rule == {"series": OIL, "min_deviation": 50.0}
    page.reload()
    page.wait_for_selector(".answer .result")
    assert page.get_by_label("Least deviation", exact=True).input_value() == "50"


def test_the_surprise_is_taken_apart_by_channels(page: Any) -> None:
    page.goto(f"/series/view?id={OIL}")
    page.get_by_role("button", name="Show the channels").click()
    page.wait_for_selector("table.made-of tbody tr")
    assert page.locator("table.made-of tbody tr").count() == 12
    assert page.locator("table.made-of tr.cause").count() == 1
    until(page, "location.search.includes('made=1')")
    inked = """() => [...document.querySelectorAll('table.made-of canvas')].some((one) =>
        one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((x) => x > 0))"""
    until(page, f"({inked})()")
    page.reload()
    page.wait_for_selector("table.made-of tbody tr")
    page.goto("/")
    page.wait_for_selector("aside .sentence")
    page.locator("aside").get_by_role("button", name="Show the channels").click()
    page.wait_for_selector("aside table.made-of tr.cause")


def test_news_come_by_themselves(browser: Any, tmp_path: Path) -> None:
    one = plant(tmp_path)
    with served(one) as site:
        for page in opened(browser, site, viewport=WIDE):
            page.goto("/")
            page.wait_for_selector("h1:has-text('4 open')")
            assert page.get_by_role("button", name="False alarm").first.is_disabled()
            assert "no control topic" in page.locator(".verdicts").first.inner_text()
            for i in range(3):
                episode = one.store.episodes.get(f"harm-{i}")
                assert episode is not None
                one.store.take_alert(later(episode.alert, 2, status="resolved"))
            page.wait_for_selector("h1:has-text('1 open')")


def test_a_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    access = Access(token="correct-horse-battery")
    with served(service(connector(tmp_path)), access) as site:
        context = browser.new_context(base_url=site.address)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto("/health")
        page.get_by_label("Token").fill("wrong-wrong-wrong")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("text=not the token")
        page.get_by_label("Token").fill("correct-horse-battery")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("h1:has-text('Health')")
        for evil in ("//evil.example/", "/%09/evil.example/", "/.//evil.example/", "http://["):
            page.goto(f"/login?back={evil}")
            page.get_by_label("Token").fill("correct-horse-battery")
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(lambda url: "/login" not in url)
            assert page.url.startswith(site.address + "/"), evil
        context.close()


def test_an_answer_of_a_proxy_does_not_end_the_news(browser: Any, tmp_path: Path) -> None:
    with served(service(connector(tmp_path))) as site:
        context = browser.new_context(base_url=site.address)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.route("**/v1/events", lambda route: route.fulfill(status=502, body="starting"))
        page.goto("/")
        page.wait_for_selector("p.live:has-text('does not answer')")
        page.unroute("**/v1/events")
        page.wait_for_selector("p.live:not(:has-text('does not answer'))")
        context.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(browser: Any, site: Site, theme: str) -> None:
    for page in opened(browser, site, viewport=WIDE, color_scheme=theme):
        for address in (*PAGES, "/alert?id=harm-1"):
            page.goto(address)
            page.wait_for_selector("main h1, main h2")
            page.wait_for_timeout(500)
            found = axe.Axe().run(page).response["violations"]
            grave = [
                (one["id"], [node["target"] for node in one["nodes"]][:3])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert not grave, address


def test_a_narrow_screen_needs_no_scrolling_aside(browser: Any, site: Site) -> None:
    for page in opened(browser, site, viewport={"width": 360, "height": 740}):
        for address in (*PAGES, "/alert?id=harm-1"):
            page.goto(address)
            page.wait_for_selector("main h1, main h2")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, address
        page.goto("/")
        page.locator(".row a").first.click()
        page.wait_for_selector("main.alert .sentence")
