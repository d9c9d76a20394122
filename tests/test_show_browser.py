"""The page of a step in a real browser: nothing fails, pointing marks, nothing overlaps.

Needs selenium (the extra ``browser``), Chromium and its driver: ``make test-browser``. Pictures are
left in ``build/pages``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium and chromedriver are not both installed"
)
PICTURES = Path(__file__).parents[1] / "build" / "pages"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1600,1100", "--hide-scrollbars",
)  # fmt: skip
# Boxes of visible elements that hold text and no other elements, and may be cut off by ellipses.
OVERLAPS = """
const seen = [...document.querySelectorAll(arguments[0])].map(e => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => e.checkVisibility() && r.width && r.height);
const wrong = [];
for (let i = 0; i < seen.length; i++) for (let j = i + 1; j < seen.length; j++) {
  const [a, p] = seen[i], [b, q] = seen[j];
  if (a.contains(b) || b.contains(a)) continue;
  const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  if (x > 1 && y > 1) wrong.push(a.textContent.slice(0, 40) + " | " + b.textContent.slice(0, 40));
}
return wrong;
"""


def model() -> Any:
    x = tf.placeholder(tf.float32, [None, 784], name="x")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    with tf.variable_scope("hidden"):
        w = tf.get_variable("w", [784, 128], initializer=tf.ones_initializer())
        product = tf.matmul(x, w)
        h = tf.nn.relu(product, name="h")
    with tf.variable_scope("output"):
        v = tf.get_variable("w", [128, 10], initializer=tf.ones_initializer())
        logits = tf.matmul(h, v, name="logits")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses, name="loss")
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, name="train")
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return session.make_callable([loss, train], [x, labels])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "step.html"
    with tf.Graph().as_default():
        model().dump(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    """The browser with the page; afterwards it must not have complained."""
    browser.set_window_size(1600, 1100)
    browser.get(page.as_uri())
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    yield browser
    assert browser.get_log("browser") == []


def value(browser: Any, stage: str, name: str) -> Any:
    found = browser.find_elements("css selector", f"[data-stage={stage}] i[data-v]")
    return next(element for element in found if element.text == name)


def point_at(browser: Any, element: Any) -> None:
    webdriver.ActionChains(browser).move_to_element(element).perform()


def pixels_of(browser: Any, png: str) -> np.ndarray[Any, Any]:
    """The pixels of a PNG in base64, as the browser decodes it, at a quarter of its size."""
    pixels = browser.execute_async_script("""
const [data, done] = arguments, image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width / 4, image.height / 4];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  done([...context.getImageData(0, 0, canvas.width, canvas.height).data]);
};
image.src = data;
""", f"data:image/png;base64,{png}")
    return np.array(pixels, np.uint8).reshape(-1, 4)


def test_pointing_at_a_value_marks_it_in_every_stage(shown: Any) -> None:
    target = value(shown, "tensor", "%hidden.h")
    point_at(shown, target)
    number = target.get_attribute("data-o")
    for stage in ("graph", "tensor", "fused", "loops"):
        marked = shown.find_elements("css selector", f"[data-stage={stage}] i.kin")
        assert marked, stage
        assert {each.get_attribute("data-o") for each in marked} == {number}
    same = shown.find_elements("css selector", "[data-stage=tensor] i.same")
    assert {each.text for each in same} == {"%hidden.h"}
    assert len(same) > 2  # where it is made, and where it is used
    assert not shown.find_elements("css selector", "[data-stage=fused] i.same")
    (line,) = shown.find_elements("css selector", "[data-stage=source] .l.kin")
    assert line.text.endswith('h = tf.nn.relu(product, name="h")')
    inspector = shown.find_element("id", "inspector").text
    assert "%hidden.h" in inspector
    assert "of hidden/h" in inspector
    point_at(shown, shown.find_element("css selector", "h1"))
    assert not shown.find_elements("css selector", ".kin, .same")


def test_pointing_at_a_source_line_marks_all_that_came_of_it(shown: Any) -> None:
    lines = shown.find_elements("css selector", "[data-stage=source] [data-s]")
    target = next(line for line in lines if "product = tf.matmul" in line.text)
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
    point_at(shown, target)
    marked = shown.find_elements("css selector", "[data-stage=graph] .l.kin")
    assert [line.text.split(" = ")[0] for line in marked] == ["hidden/MatMul"]


def test_a_click_holds_and_escape_lets_go(shown: Any) -> None:
    value(shown, "graph", "output/logits").click()
    point_at(shown, shown.find_element("css selector", "h1"))
    assert shown.find_elements("css selector", "[data-stage=loops] .kin")
    visible = shown.execute_script("""
const box = document.querySelector("[data-stage=loops] .code").getBoundingClientRect();
const line = document.querySelector("[data-stage=loops] .l.kin").getBoundingClientRect();
return line.top >= box.top && line.bottom <= box.bottom;
""")
    assert visible
    shown.find_element("css selector", "body").send_keys("\ue00c")
    assert not shown.find_elements("css selector", ".kin")


def test_the_keyboard_is_enough(shown: Any) -> None:
    button = shown.find_element("css selector", "[data-stage=llvm] button")
    assert not shown.find_element("id", "at-llvm").is_displayed()
    button.send_keys("\ue007")
    assert shown.find_element("id", "at-llvm").is_displayed()
    assert button.get_attribute("aria-expanded") == "true"
    column = shown.find_element("id", "at-tensor")
    for _ in range(7):
        column.send_keys("\ue015")
    (line,) = shown.find_elements("css selector", ".l.here")
    assert line.get_attribute("data-n") == "7"
    column.send_keys("\ue007")
    assert "held" in shown.find_element("id", "inspector").text
    summaries = shown.find_elements("css selector", ".pass summary")
    fuse = next(each for each in summaries if each.text.startswith("fuse\n"))
    fuse.send_keys("\ue007")
    assert "fused(" in fuse.find_element("xpath", "..").text


@pytest.mark.parametrize("width", [1600, 800])
def test_nothing_overlaps_and_lines_stand_under_each_other(shown: Any, width: int) -> None:
    shown.set_window_size(width, 1100)
    assert shown.execute_script(OVERLAPS, "header h1, header dl, header nav, .column h3") == []
    assert shown.execute_script(OVERLAPS, ".pass summary > *, .pass.idle > *") == []
    assert shown.execute_script(OVERLAPS, "th, td") == []
    assert shown.execute_script(OVERLAPS, ".drawing g > rect") == []
    assert shown.execute_script(OVERLAPS, ".arena g.box > rect") == []
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    starts, heights = shown.execute_script("""
const lines = [...document.querySelectorAll("[data-stage=tensor] .l")].slice(0, 20);
const range = document.createRange();
const left = line => { range.selectNodeContents(line); return range.getBoundingClientRect().left; };
return [lines.map(left), lines.map(line => line.getBoundingClientRect().height)];
""")
    assert len(set(starts)) == 1
    assert len({round(height) for height in heights}) == 1
    outside = shown.execute_script("""
return [...document.querySelectorAll(".drawing g, .arena g.box")].filter(group => {
  const box = group.querySelector("rect").getBoundingClientRect();
  return [...group.querySelectorAll("text")].some(text => {
    const inner = text.getBoundingClientRect();
    return inner.left < box.left - 1 || inner.right > box.right + 1;
  });
}).map(group => group.textContent);
""")
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_is_not_blank(shown: Any, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    point_at(shown, value(shown, "fused", "%hidden.h"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    shown.save_screenshot(str(PICTURES / f"{scheme}.png"))
    taken = shown.get_screenshot_as_base64()
    shown.get("about:blank")  # the page's policy loads no pictures
    pixels = pixels_of(shown, taken)
    brightness = pixels[:, :3].mean(1)
    paper = np.median(brightness)
    assert (paper > 200) if scheme == "light" else (paper < 60)
    ink = np.abs(brightness - paper) > 60
    assert 0.01 < ink.mean() < 0.5
    assert len(np.unique(pixels[:, :3] // 16, axis=0)) > 30
    marked = (pixels[:, 0].astype(int) - pixels[:, 2]) > 40  # the yellow of what is marked
    assert marked.sum() > 20
