"""The pages in a browser (Debian's chromium and chromium-driver), from files, without a network. Pictures are left in build/."""

import shutil
from pathlib import Path

import pytest

from tests.made_report import CLASSES, ROWS, make_pages

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "how the pages behave is not tested: no chromium and chromedriver (apt install chromium chromium-driver)"
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)
ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build/screenshots"
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of an IPC and the one over IPCs."""
    folder = make_pages(tmp_path_factory.mktemp("pages"))
    return {"page": folder / "summary.html", "overview": folder.parent / "summary.html"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests, with no way to a network."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--proxy-server=127.0.0.1:9"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, page, size=WIDE, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(page.as_uri())
    return browser


def first_column(browser):
    script = "return [...document.querySelectorAll('#accuracy tbody tr')].filter(r => !r.hidden).map(r => r.dataset.row)"
    return browser.execute_script(script)


def press(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["page", "overview"])
def test_it_loads_without_errors_and_fits(browser, pages, name, scheme, size):
    opened(browser, pages[name], size, scheme)
    assert browser.get_log("browser") == []
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    bright = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    background, ink = browser.execute_script(f"return [{bright}, {bright.replace('backgroundColor', 'color')}]")
    assert (sum(background) > sum(ink)) == (scheme == "light")
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(PICTURES / f"{name}-{scheme}-{size[0]}.png"))


def test_every_image_is_decoded(browser, pages):
    opened(browser, pages["page"])
    script = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth))).then(arguments[0])"
    widths = browser.execute_async_script(script)
    assert len(widths) == 4 * len(CLASSES) * 3 + 4 + 2 * 5  # the images, and matrices of all rows without a failed training
    assert min(widths) > 0


def test_the_table_sorts_by_mouse_and_keyboard(browser, pages):
    from selenium.webdriver.common.keys import Keys

    opened(browser, pages["page"])
    assert first_column(browser) == list(ROWS)
    head = "return [...document.querySelectorAll('#accuracy thead th')].find(h => h.textContent.includes('rded-soft accuracy'))"
    cell = browser.execute_script(head)
    button = browser.execute_script("return arguments[0].querySelector('button')", cell)
    button.click()
    assert cell.get_attribute("aria-sort") == "descending"
    best = sorted(ROWS, key=lambda row: -ROWS[row])
    assert first_column(browser) == best
    button.send_keys(Keys.ENTER)
    assert cell.get_attribute("aria-sort") == "ascending"
    assert first_column(browser) == best[::-1]
    button.send_keys(Keys.SPACE)
    assert cell.get_attribute("aria-sort") is None
    assert first_column(browser) == list(ROWS)
    failed = browser.execute_script(head.replace("rded-soft", "minimax-hard-256"))
    for _ in range(2):
        browser.execute_script("arguments[0].querySelector('button').click()", failed)
        assert first_column(browser)[-1] == "dit"  # one of its trainings failed: no number, last in both orders


def test_the_filter_finds_everything_of_a_row(browser, pages):
    opened(browser, pages["page"])
    browser.find_element("id", "find").send_keys("MGD dit")
    assert first_column(browser) == ["mgd", "dit"]
    script = "return [...document.querySelectorAll('[data-row]')].filter(e => e.checkVisibility()).map(e => e.dataset.row)"
    assert set(browser.execute_script(script)) == {"mgd", "dit", "dit mgd"}
    press(browser, ".chip input[value=mgd]")
    assert first_column(browser) == ["dit"]
    assert "1 of 5" in browser.find_element("id", "count").text
    press(browser, "#none")
    assert first_column(browser) == []
    press(browser, "#every")
    assert first_column(browser) == ["mgd", "dit"]


def test_a_class_is_shown_alone(browser, pages):
    opened(browser, pages["page"])
    script = "return [...document.querySelectorAll('td[data-class]')].filter(e => e.checkVisibility()).map(e => e.dataset.class)"
    assert set(browser.execute_script(script)) == {"0", "1"}
    browser.execute_script("const s = document.getElementById('class'); s.value = '1'; s.dispatchEvent(new Event('change'))")
    assert set(browser.execute_script(script)) == {"1"}


def test_a_link_to_a_row_opens_it_and_the_theme_can_be_chosen(browser, pages):
    opened(browser, pages["page"])
    press(browser, "a[href='#row-mgd']")
    assert browser.execute_async_script("setTimeout(() => arguments[0](document.getElementById('row-mgd').open), 50)")
    press(browser, "#theme")
    press(browser, "#theme")
    assert browser.execute_script("return getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_without_scripts_it_can_be_read(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(browser, pages["page"])
        assert "mgd" in browser.find_element("css selector", "#accuracy table").text
        assert not browser.find_element("id", "filter").is_displayed()
        assert browser.find_element("css selector", ".gallery img").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
