"""The widget in JupyterLab in a real browser: ``pytest -m browser`` (Chromium, selenium, jupyterlab).

The screenshot is written to pytest's temporary folder, or to the one that SCREENSHOTS names.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.browser

WAIT = 120  # seconds: a loaded machine starts a kernel and a browser slowly
CELLS = (
    """
import warnings
warnings.simplefilter("ignore")
import hyperspy.api as hs
hs.set_log_level("ERROR")
from exspy_deepdeconv import data
s = data.plasmonic_map(shape=(3, 4), channels=1024)
""",
    "tool = s.deep_deconvolve(interactive=True)",
)


@pytest.fixture
def notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    path = tmp_path / "widget.ipynb"
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(made, path)
    return path


@pytest.fixture
def address(notebook):
    """Address of the notebook in a JupyterLab of its own."""
    pytest.importorskip("jupyterlab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = notebook.parent / "home"
    folders = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = (
        "--no-browser --allow-root --ServerApp.ip=127.0.0.1 --IdentityProvider.token="
        f" --ServerApp.port={port} --ServerApp.port_retries=0 --LabApp.expose_app_in_browser=True --LabApp.news_url=None"
    )
    with open(notebook.with_name("jupyter.log"), "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options.split()],
            cwd=notebook.parent,
            env=os.environ | folders | {"HOME": str(home), "IPYTHONDIR": str(home / "ipython")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: server.poll() is None and answers(f"http://127.0.0.1:{port}/api"))
        yield f"http://127.0.0.1:{port}/doc/tree/{notebook.name}"
    finally:
        server.terminate()  # ends its kernels, too
        server.wait(WAIT)


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium with its driver (Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1400,1150"):
        options.add_argument(f"--{option}")
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


def answers(address):
    try:
        return urlopen(address, timeout=5).status == 200
    except (URLError, OSError):
        return False


def wait_for(condition):
    """The first true value of a condition; an error of its own where it never comes."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.3)
    raise TimeoutError(f"waited {WAIT} s in vain")


def test_widget_in_jupyterlab(address, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def find(css):
        return browser.find_elements(By.CSS_SELECTOR, css)

    # In one call each: elements come and go.
    def words(css):
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return " ".join(browser.execute_script(script, css))

    def picture():
        """Address of the picture in the browser's memory: a new one for every new picture."""
        return browser.execute_script(
            "const i = document.querySelector('img.widget-image');"
            "return i && i.naturalWidth > 300 ? i.src : null"
        )

    def button(text):
        return next(element for element in find("button.widget-button") if element.text == text)

    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    try:
        browser.get(address)
        ready = "return window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        wait_for(lambda: browser.execute_script(f"{ready}?.status === 'idle'"))
        browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        before = wait_for(picture)
        readout = words(".widget-readout")

        handle = find(".widget-slider .noUi-handle")[0]
        handle.send_keys(Keys.ARROW_RIGHT * 10)
        wait_for(lambda: picture() != before)
        assert words(".widget-readout") != readout

        button("Apply").click()
        wait_for(lambda: "after deep deconvolution" in words(".widget-html"))
        wait_for(lambda: "100%" in words(".widget-output"))  # the progress bar
        for box in find(".widget-checkbox"):
            if box.text in ("Interval", "Residual"):
                before = picture()
                box.find_element(By.TAG_NAME, "input").click()
                wait_for(lambda before=before: picture() != before)
        browser.execute_script("arguments[0].scrollIntoView()", find(".widget-slider")[0])
        browser.save_screenshot(str(folder / "widget.png"))

        button("Close").click()
        wait_for(lambda: picture() is None)
    except Exception:
        browser.save_screenshot(str(folder / "widget_failed.png"))
        raise
