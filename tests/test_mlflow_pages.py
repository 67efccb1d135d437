"""MLflow's pages of the records in a real browser: Debian's chromium with its driver, and selenium.

Left out where they are missing. FLOWPRIOR_ROOT names a repository whose records are looked at in place of made-up ones,
FLOWPRIOR_SCREENSHOTS a folder that gets pictures of the pages:

    FLOWPRIOR_ROOT=. FLOWPRIOR_SCREENSHOTS=docs/images pytest tests/test_mlflow_pages.py
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from published_tree import make_tree

from flowprior.records import records_of
from flowprior.tracking import publish, tracking_uri
from flowprior.tracking.sending import CURRENT, INVOCATION, KIND
from flowprior.tracking.ui import pages_of

webdriver = pytest.importorskip("selenium.webdriver")
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DRIVER and BROWSER), reason="no chromium with chromedriver on this machine"),
]
#: Seconds that a page may take to show something.
PATIENCE = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    if "FLOWPRIOR_ROOT" in os.environ:
        return Path(os.environ["FLOWPRIOR_ROOT"]).resolve()
    root = tmp_path_factory.mktemp("tree")
    experiment = make_tree(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        publish(records_of(experiment, root), root)
    return root


@pytest.fixture(scope="module")
def runs(root):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri(root))
    (group,) = [group.experiment_id for group in client.search_experiments() if group.name != "Default"]
    return [run for run in client.search_runs([group]) if run.data.tags.get(CURRENT) != "no"]


@pytest.fixture(scope="module")
def address(root):
    """Of the pages, served as `make ui` serves them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [str(Path(sys.executable).with_name("flowprior")), "ui", "--port", port]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(lambda: urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1800,1000"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.binary_location = BROWSER
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.get(address)
    # The panel of MLflow's assistant opens by itself the first time, and would take a third of every page.
    _wait_for(lambda: browser.execute_script(_SET_ASIDE))
    yield browser
    browser.quit()


#: Closes the panel by its cross, the button in the upper right corner.
_SET_ASIDE = """
if (!document.body.innerText.includes('MLflow Assistant')) return false;
const corner = [...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().top < 60)
    .sort((a, b) => b.getBoundingClientRect().left - a.getBoundingClientRect().left)[0];
corner.click();
return true;
"""


def _wait_for(condition):
    """What a condition gives once it is true; it may fail until then."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := condition():
                return found
        except Exception as error:
            if time.monotonic() > end:
                raise AssertionError(f"not within {PATIENCE} s") from error
        assert time.monotonic() < end, f"not within {PATIENCE} s"
        time.sleep(0.2)


def text_of(page):
    return page.execute_script("return document.body.innerText")


def photograph(page, name):
    if folder := os.environ.get("FLOWPRIOR_SCREENSHOTS"):
        time.sleep(2)  # until nothing moves any more
        page.save_screenshot(str(Path(folder) / f"mlflow_{name}.png"))


def test_the_table_of_runs_shows_method_task_and_psnr(page, address, root, runs):
    ((_, path),) = pages_of(root).items()
    started = time.monotonic()
    page.get(address + path)
    best = max((run for run in runs if "psnr" in run.data.metrics), key=lambda run: run.data.metrics["psnr"])
    _wait_for(lambda: best.info.run_name[:15] in text_of(page))
    seconds = time.monotonic() - started
    photograph(page, "runs")
    headers = set(text_of(page).split("\n"))
    assert {"method", "task", "psnr"} <= headers
    assert best.data.params["method"] in text_of(page)
    assert f"{best.data.metrics['psnr']:.3f}" in text_of(page)
    print(f"the table of {len(runs)} runs: {seconds:.1f} s")


def test_a_nested_run_opens(page, address, runs):
    call = max((run for run in runs if run.data.tags[KIND] == INVOCATION), key=lambda run: run.data.metrics["runs"])
    group = call.info.experiment_id
    page.get(f"{address}/#/experiments/{group}/runs/{call.info.run_id}")
    beneath = {run.info.run_id: run for run in runs if run.data.tags.get("mlflow.parentRunId") == call.info.run_id}
    _wait_for(lambda: "Child runs" in text_of(page) and beneath.keys() & set(_linked(page)))
    photograph(page, "call")
    opened = beneath[next(name for name in _linked(page) if name in beneath)]
    page.execute_script("document.querySelector(`a[href$='${arguments[0]}']`).click()", opened.info.run_id)
    _wait_for(lambda: opened.info.run_id in page.current_url and opened.info.run_name in text_of(page))


def _linked(page):
    """Runs that a page links to."""
    hrefs = page.execute_script("return [...document.querySelectorAll('a')].map(a => a.href)")
    return [href.rpartition("/")[2] for href in hrefs]


def _solved(runs):
    return [run for run in runs if run.data.tags[KIND] == "reconstruction" and run.data.params["method"] == "chavez"]


def test_its_picture_is_visible(page, address, runs):
    run = _solved(runs)[0]
    base = f"{address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    page.get(base)
    _wait_for(lambda: run.info.run_name in text_of(page) and "psnr" in text_of(page))
    photograph(page, "run")
    page.get(f"{base}/artifacts/reconstructions.png")
    _wait_for(
        lambda: page.execute_script(
            "return [...document.querySelectorAll('img')].some(i => i.naturalWidth > 500 && i.offsetParent !== null)"
            " || [...document.querySelectorAll('*')].some("
            "e => getComputedStyle(e).backgroundImage.includes('reconstructions.png'))"
        )
    )
    photograph(page, "picture")


def test_two_runs_are_compared_in_a_chart(page, address, runs):
    chosen = [run.info.run_id for run in _solved(runs)[:2]]
    group = runs[0].info.experiment_id
    page.get(f"{address}/#/compare-runs?runs={json.dumps(chosen)}&experiments={json.dumps([group])}".replace(" ", ""))
    _wait_for(lambda: page.find_elements("css selector", ".js-plotly-plot svg.main-svg path, .js-plotly-plot canvas"))
    assert re.search(r"Comparing 2 Runs", text_of(page))
    photograph(page, "compare")


def test_the_registered_flow_has_its_page(page, address, root):
    from mlflow.tracking import MlflowClient

    model = MlflowClient(tracking_uri=tracking_uri(root)).search_registered_models()[0]
    page.get(f"{address}/#/models/{model.name}")
    _wait_for(lambda: "best" in text_of(page) and "Version 1" in text_of(page))
    photograph(page, "model")
