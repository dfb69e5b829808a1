"""A real browser without a window that predicts images or texts with the page of a bundle."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ORT_FOLDER = os.environ.get("EFFXFER_ORT_WEB", "")
TOKENIZERS_FOLDER = os.environ.get("EFFXFER_TOKENIZERS_WEB", "")
MISSING = "no Chromium here" if not BROWSER else f"EFFXFER_ORT_WEB names no folder of npm's {ORT_WEB.package}"
NO_TOKENIZERS = f"EFFXFER_TOKENIZERS_WEB names no folder of npm's {TOKENIZERS_WEB.package}"
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
const choose = async (inside, name) => {
  const blob = await (await fetch(`/images/${name}`)).blob();
  const files = new DataTransfer();
  files.items.add(new File([blob], name, { type: blob.type }));
  inside.getElementById("file").files = files.files;
  inside.getElementById("file").dispatchEvent(new Event("change"));
};
const write = async (inside, texts) => {
  const areas = inside.querySelectorAll("textarea");
  texts.forEach((text, i) => { areas[i].value = text; });
  areas[0].dispatchEvent(new Event("input"));
};
try {
  await new Promise((resolve) => { frame.onload = resolve; });
  const inside = frame.contentDocument;
  await wait(inside, ["ready", "failed"]);
  for (const model of inside.getElementById("model").options) {
    inside.getElementById("model").value = model.value;
    for (const example of await (await fetch("/examples.json")).json()) {
      const status = inside.getElementById("status");
      status.dataset.state = "";
      await (typeof example === "string" ? choose : write)(inside, example);
      await wait(inside, ["done", "failed"]);
      const answer = JSON.parse(status.dataset.answer ?? "null");
      const seen = inside.getElementById("ranking").innerHTML;
      rows.push({ state: status.dataset.state, answer, model: model.text, text: status.textContent, seen });
      delete status.dataset.answer;
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


def predict(bundle: Path, examples: Sequence[Path | tuple[str, ...]], place: Path, seconds: float = 120.0):
    """Show images, or texts by field, to the page of a copy of `bundle` under `place`; give what it says of each."""
    site = place / "site"
    shutil.copytree(bundle, site)
    (site / "images").mkdir()
    plain = []
    for i, example in enumerate(examples):
        if isinstance(example, Path):
            shutil.copyfile(example, site / "images" / f"{i}{example.suffix}")
        plain.append(f"{i}{example.suffix}" if isinstance(example, Path) else example)
    (site / "examples.json").write_text(json.dumps(plain))
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
