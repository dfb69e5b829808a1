"""A real browser without a window that classifies images with the page of a bundle."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from effxfer.deploy.bundle.ort_web import PACKAGE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ORT_WEB = os.environ.get("EFFXFER_ORT_WEB", "")
MISSING = "no Chromium here" if not BROWSER else f"EFFXFER_ORT_WEB names no folder of npm's {PACKAGE}"
DRIVER = """<!doctype html><iframe id="page" src="/index.html"></iframe><script type="module">
const frame = document.getElementById("page");
const wait = async (inside, states) => {
  for (;;) {
    const { state } = inside.getElementById("status").dataset;
    if (states.includes(state)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
const rows = [];
try {
  await new Promise((resolve) => { frame.onload = resolve; });
  const inside = frame.contentDocument;
  await wait(inside, ["ready", "failed"]);
  const put = inside.getElementById("file");
  for (const model of inside.getElementById("model").options) {
    inside.getElementById("model").value = model.value;
    for (const name of await (await fetch("/names.json")).json()) {
      const blob = await (await fetch(`/images/${name}`)).blob();
      const files = new DataTransfer();
      files.items.add(new File([blob], name, { type: blob.type }));
      put.files = files.files;
      inside.getElementById("status").dataset.state = "";
      put.dispatchEvent(new Event("change"));
      await wait(inside, ["done", "failed"]);
      const status = inside.getElementById("status");
      rows.push({ ...status.dataset, name, model: model.text, text: status.textContent });
      delete status.dataset.label;
    }
  }
} catch (error) { rows.push({ state: "failed", text: String(error) }); }
await fetch("/result", { method: "POST", body: JSON.stringify(rows) });
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and takes the result."""

    def do_POST(self):
        self.server.rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.told.set()

    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path):
    """Serve a folder on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        server.told, server.rows = threading.Event(), []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def classify(bundle: Path, images: list[Path], place: Path, seconds: float = 120.0) -> list[dict[str, str]]:
    """Show images to the page of a copy of `bundle` under `place`; give what it says, model by model."""
    site = place / "site"
    shutil.copytree(bundle, site)
    (site / "images").mkdir()
    names = [f"{i}{image.suffix}" for i, image in enumerate(images)]
    for name, image in zip(names, images, strict=True):
        shutil.copyfile(image, site / "images" / name)
    (site / "names.json").write_text(json.dumps(names))
    (site / "driver.html").write_text(DRIVER)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"]
    with served(site) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/driver.html"
        command = [BROWSER, *flags, "--disable-dev-shm-usage", f"--user-data-dir={place / 'profile'}", url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert server.told.wait(seconds), "the browser gave no result"
        finally:
            process.kill()
            process.wait()
        return server.rows
