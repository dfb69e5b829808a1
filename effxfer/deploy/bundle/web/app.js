// Classifies an image in this browser: nothing is sent anywhere.
import * as ort from "./ort/ort.wasm.min.mjs";
import { normalize, resizeCrop } from "./preprocess.js";

const MAX_PIXELS = 64e6;
const place = new URL(".", import.meta.url).href;
const field = (id) => document.getElementById(id);
const sessions = new Map();
let about;

ort.env.wasm.wasmPaths = `${place}ort/`;
if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1;

// Decode as the runtime does: upright, transparency on white, colours as they are stored.
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none",
  });
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) throw new Error(`${width} x ${height} pixels are too many`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; j < data.length; i += 4, j += 3) {
    data[j] = rgba[i];
    data[j + 1] = rgba[i + 1];
    data[j + 2] = rgba[i + 2];
  }
  return { data, width, height };
}

function tensor(image, model) {
  if (model.resizes) return new ort.Tensor("uint8", image.data, [1, image.height, image.width, 3]);
  const cut = resizeCrop(image, { ...about.preprocess, tall_first: about.tall_first });
  return new ort.Tensor("float32", normalize(cut, about.preprocess), [1, 3, cut.height, cut.width]);
}

function softmax(logits) {
  const most = Math.max(...logits);
  const raised = Array.from(logits, (x) => Math.exp(x - most));
  const total = raised.reduce((a, b) => a + b, 0);
  return raised.map((x) => x / total);
}

// One session at a time: a change of the model frees the other one.
async function open(model) {
  if (!sessions.has(model.file)) {
    for (const [file, session] of sessions) {
      sessions.delete(file);
      await session.release();
    }
    sessions.set(model.file, await ort.InferenceSession.create(place + model.file, { executionProviders: ["wasm"] }));
  }
  return sessions.get(model.file);
}

async function classify(blob, model) {
  const input = tensor(await decode(blob), model);
  const session = await open(model);
  const begun = performance.now();
  const result = await session.run({ [model.input]: input });
  const took = performance.now() - begun;
  const values = Array.from(result[model.output].data);
  const shares = model.resizes ? values : softmax(values);
  const ranked = shares.map((share, i) => ({ label: about.labels[i], share })).sort((a, b) => b.share - a.share);
  return { ranked, took };
}

function show({ ranked, took }, model) {
  const items = ranked.slice(0, 5).map(({ label, share }) => {
    const item = document.createElement("li");
    const bar = document.createElement("meter");
    bar.value = share;
    item.append(bar, ` ${label} `, `${(100 * share).toFixed(1)} %`);
    return item;
  });
  field("ranking").replaceChildren(...items);
  state("done", `${took.toFixed(1)} ms with ${model.file}`);
  Object.assign(field("status").dataset, { label: ranked[0].label, share: ranked[0].share });
}

function state(name, text) {
  field("status").textContent = text;
  field("status").dataset.state = name;
}

async function take(file) {
  if (!file) return;
  state("busy", "…");
  field("preview").src = URL.createObjectURL(file);
  const model = about.models[field("model").value];
  try {
    show(await classify(file, model), model);
  } catch (error) {
    field("ranking").replaceChildren();
    state("failed", `This image cannot be classified: ${error.message}`);
  }
}

async function start() {
  about = await (await fetch(`${place}model.json`)).json();
  document.title = about.title;
  field("title").textContent = about.title;
  field("model").replaceChildren(...about.models.map((model, i) => new Option(model.title, i)));
  const picked = () => take(field("file").files[0]);
  field("file").addEventListener("change", picked);
  field("model").addEventListener("change", picked);
  document.body.addEventListener("dragover", (event) => event.preventDefault());
  document.body.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    field("file").files = event.dataTransfer.files;
    picked();
  });
  state("ready", "Choose an image, or drop one here.");
}

start().catch((error) => state("failed", `The page cannot start: ${error.message}`));
