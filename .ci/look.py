"""Look at the built pages in a browser, at the width of a screen and of a telephone.

    make look

Each page is opened in Chromium without a window. A page fails if it can be scrolled sideways, if a
picture is missing or cut off, if a formula or a script fails, if a block of code cannot be copied,
or if a link leads to no page or to no place on it. Pictures of all pages are left in
`docs/_build/screens`, to be looked at. Links that leave the site are not followed.

Where Chromium and its driver are not installed, nothing is checked, and a line says so.
"""

import functools
import http.server
import json
import shutil
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

BUILT = Path(__file__).parents[1] / "docs" / "_build"
PAGES = BUILT / "html"
SCREENS = BUILT / "screens"
SIZES = {"wide": (1280, 900), "narrow": (390, 800)}
LEFT_OUT = ("_modules", "_static", "genindex", "search", "py-modindex")
"""Pages that Sphinx makes of the sources; links to them are checked."""

MEASURE = """
const done = arguments[arguments.length - 1];
const ready = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
ready.then(() => {
  const wide = window.innerWidth, html = document.documentElement;
  const cut = box => { const r = box.getBoundingClientRect(); return r.right > wide + 1; };
  const images = [...document.querySelectorAll("article img")];
  const code = [...document.querySelectorAll("article div.highlight pre")];
  done({
    width: html.scrollWidth - wide,
    height: html.scrollHeight,
    missing: images.filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src),
    cut: images.filter(cut).map(i => i.src),
    formulas: document.querySelectorAll(".math").length,
    shown: document.querySelectorAll("mjx-container").length,
    errors: [...document.querySelectorAll("mjx-merror")].map(e => e.textContent),
    uncopied: code.filter(c => !c.parentElement.querySelector("button.copybtn"))
                  .map(c => c.textContent.slice(0, 60)),
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
    places: [...document.querySelectorAll("[id]")].map(e => e.id),
  });
});
"""


def main() -> int:
    """Look at all pages; the exit status says whether something is wrong."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        print("!!!!!!!!!! CHROMIUM WAS NOT FOUND: NOBODY LOOKED AT THE PAGES !!!!!!!!!!")
        return 0
    if not (PAGES / "index.html").exists():
        sys.exit("there are no pages yet: run `make docs` first")
    shutil.rmtree(SCREENS, ignore_errors=True)
    SCREENS.mkdir(parents=True)
    with serving(PAGES) as address:
        window = open_window(browser, driver)
        try:
            faults = [*look(window, address), *copy_once(window, address)]
        finally:
            window.quit()
    print(*faults, sep="\n")
    print(f"{len(faults)} faults; pictures are in {SCREENS.relative_to(BUILT.parents[1])}")
    return bool(faults)


class serving:
    """The files of a folder, served on this machine while the block runs."""

    def __init__(self, folder: Path):
        handler = functools.partial(Quiet, directory=folder)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/"

    def __exit__(self, *_):
        self.server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not print every request."""

    def log_message(self, *_):
        """Print nothing."""


def open_window(browser: str, driver: str):
    """A browser without a window, which asks no other machine for anything."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "hide-scrollbars",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def look(window, address: str) -> Iterator[str]:
    """What is wrong with the pages, one line for each fault."""
    seen: dict[str, dict] = {}
    for size, (width, height) in SIZES.items():
        window.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        for name in page_names():
            window.get(address + name)
            found = window.execute_async_script(MEASURE)
            seen[name] = found
            picture = f"{name.removesuffix('.html').replace('/', '.')}.{size}.png"
            take_picture(window, SCREENS / picture, width, found["height"])
            for fault in [*faults_of(found), *complaints(window)]:
                yield f"{name} ({size}): {fault}"
    yield from dead_links(seen, address)


def page_names() -> list[str]:
    """The pages that somebody wrote."""
    names = [path.relative_to(PAGES).as_posix() for path in sorted(PAGES.rglob("*.html"))]
    return [name for name in names if not name.startswith(LEFT_OUT)]


def faults_of(found: dict) -> Iterator[str]:
    """What the numbers of one page say."""
    if found["width"] > 0:
        yield f"it can be scrolled sideways by {found['width']} pixels"
    for name in found["missing"]:
        yield f"a picture is missing: {name}"
    for name in found["cut"]:
        yield f"a picture is cut off: {name}"
    if found["shown"] < found["formulas"]:
        yield f"of {found['formulas']} formulas {found['shown']} are shown"
    for text in found["errors"]:
        yield f"a formula cannot be read: {text}"
    for text in found["uncopied"]:
        yield f"a block of code has no button to copy it: {text!r}"


def complaints(window) -> Iterator[str]:
    """What the browser wrote to its console."""
    for entry in window.get_log("browser"):
        if "favicon.ico" in entry["message"]:  # browsers ask for it by themselves
            continue
        yield f"the browser complains: {entry['message']}"


def take_picture(window, path: Path, width: int, height: int) -> None:
    """The whole page, from its top to its end."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    arguments = {"clip": clip, "captureBeyondViewport": True}
    path.write_bytes(b64decode(window.execute_cdp_cmd("Page.captureScreenshot", arguments)["data"]))


def dead_links(seen: dict[str, dict], address: str) -> Iterator[str]:
    """Links inside the site that lead nowhere."""
    for name, found in seen.items():
        for link in sorted({urljoin(address + name, href) for href in found["links"]}):
            page, place = urldefrag(link)
            if not page.startswith(address):
                continue
            target = unquote(urlparse(page).path).lstrip("/") or "index.html"
            if not (PAGES / target).is_file():
                yield f"{name}: a link leads to no page: {target}"
            elif place and target in seen and unquote(place) not in seen[target]["places"]:
                yield f"{name}: a link leads to no place: {target}#{place}"


def copy_once(window, address: str) -> Iterator[str]:
    """Press a button of the quickstart that copies, and compare what arrives."""
    from selenium import webdriver

    window.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    window.get(address + "quickstart.html")
    button = window.find_element("css selector", "button.copybtn")
    shown = window.execute_script(
        "return document.querySelector(arguments[0]).textContent",
        button.get_attribute("data-clipboard-target"),
    )
    webdriver.ActionChains(window).move_to_element(button).click().perform()
    copied = window.execute_async_script(
        "const done = arguments[0]; setTimeout("
        "() => navigator.clipboard.readText().then(done, e => done('failed: ' + e)), 300)"
    )
    if copied.strip() != shown.strip():
        yield f"what is copied is not what is shown: {json.dumps(copied[:80])}"


if __name__ == "__main__":
    sys.exit(main())
