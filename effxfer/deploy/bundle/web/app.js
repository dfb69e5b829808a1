// Runs the model in this browser: nothing is sent anywhere.
import * as ort from "./ort/ort.wasm.min.mjs";
import { answer, answerTask } from "./outputs.js";

const SHOWN = 5;
const place = new URL(".", import.meta.url).href;
const field = (id) => document.getElementById(id);
const sessions = new Map();
let about;
let input;
let turn = 0;

ort.env.wasm.wasmPaths = `${place}ort/`;
if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1;

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

async function predict(model, { tensor, reading }) {
  const session = await open(model);
  const begun = performance.now();
  const result = await session.run({ [model.input]: tensor });
  const took = performance.now() - begun;
  if (about.output.tasks) {
    const said = (task) => (task.kind === "tags"
      ? input.answer(Array.from(result[task.name].data), { labels: task.classes, output: task }, reading)
      : answerTask(result, task, model.resizes));
    return { said: { tasks: about.output.tasks.map((task) => ({ task: task.name, ...said(task) })) }, took };
  }
  const raw = Array.from(result[model.output].data);
  return { said: about.tokens?.places ? input.answer(raw, about, reading) : answer(raw, about, model.resizes), took };
}

// A part of the text: an entity, a tagged word or an answer.
function part({ text, label, probability }) {
  const item = document.createElement("li");
  item.append(Object.assign(document.createElement("b"), { textContent: text }), ` ${label} ${(100 * probability).toFixed(1)} %`);
  return item;
}

function bar({ label, probability, applies = true }) {
  const item = document.createElement("li");
  const meter = document.createElement("meter");
  meter.value = probability;
  item.append(meter, ` ${label} `, `${(100 * probability).toFixed(1)} %`);
  item.className = applies ? "applies" : "other";
  return item;
}

function number({ label, value }) {
  const item = document.createElement("li");
  item.append(`${label}: `, String(Number(value.toPrecision(5))));
  return item;
}

// All labels that apply, and the most probable ones.
const shown = (ranked) => ranked.filter(({ applies }, i) => applies || i < SHOWN);

// The question, and what is said to it.
function question({ task, ranked, values, parts }) {
  const item = document.createElement("li");
  const answers = document.createElement("ol");
  const nothing = parts?.length === 0 ? " no entity" : "";
  const none = ranked?.every(({ applies }) => applies === false) ? " no label applies" : nothing;
  answers.append(...(parts?.map(part) ?? values?.map(number) ?? shown(ranked).map(bar)));
  item.append(Object.assign(document.createElement("b"), { textContent: task }), none, answers);
  return item;
}

function show({ said, took }, model, note) {
  const { ranked, values, parts, tasks } = said;
  field("ranking").replaceChildren(
    ...(tasks?.map(question) ?? parts?.map(part) ?? values?.map(number) ?? shown(ranked).map(bar)),
  );
  const nothing = { tags: "no entity; ", span: "no answer; " }[about.output.kind] ?? "no label applies; ";
  const none = parts?.length === 0 || ranked?.every(({ applies }) => applies === false) ? nothing : "";
  const plain = tasks ? { tasks } : parts ? { parts } : ranked ? { ranked } : { values };
  field("status").dataset.answer = JSON.stringify(plain);
  state("done", `${none}${note ? `${note}; ` : ""}${took.toFixed(1)} ms with ${model.file}`);
}

function state(name, text) {
  field("status").textContent = text;
  field("status").dataset.state = name;
}

async function run() {
  turn += 1;
  const mine = turn;
  const model = about.models[field("model").value];
  try {
    const example = await input.read(about, model, ort);
    if (!example) {
      field("ranking").replaceChildren();
      state("ready", input.invitation);
      return;
    }
    state("busy", "…");
    const result = await predict(model, example);
    // While one example was computed, another one may have been given.
    if (mine === turn) show(result, model, example.note);
  } catch (error) {
    if (mine !== turn) return;
    field("ranking").replaceChildren();
    state("failed", `This cannot be read: ${error.message}`);
  }
}

async function start() {
  about = await (await fetch(`${place}model.json`)).json();
  input = await import(about.tokens ? "./texts.js" : "./images.js");
  document.title = about.title;
  field("title").textContent = about.title;
  field("model").replaceChildren(...about.models.map((model, i) => new Option(model.title, i)));
  // One after the other: a session cannot run two examples at once.
  let last = Promise.resolve();
  const changed = () => { last = last.then(run); };
  field("model").addEventListener("change", changed);
  await input.listen(changed, about, place);
  state("ready", input.invitation);
}

start().catch((error) => state("failed", `The page cannot start: ${error.message}`));
