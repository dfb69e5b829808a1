// From what the model gives to what a person reads: the arithmetic of effxfer's runtime for each kind of label.

function softmax(logits) {
  const most = Math.max(...logits);
  const raised = logits.map((x) => Math.exp(x - most));
  const total = raised.reduce((a, b) => a + b, 0);
  return raised.map((x) => x / total);
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function rank(labels, probabilities) {
  const ranked = probabilities.map((probability, i) => ({ label: labels[i], probability }));
  return ranked.sort((a, b) => b.probability - a.probability);
}

function severalLabels(raw, { labels, output }, isFinal) {
  const ranked = raw.map((x, i) => ({
    label: labels[i],
    probability: isFinal ? x : sigmoid(x),
    // float32, as the model's outputs: a threshold of more digits would decide otherwise at the limit.
    applies: x > Math.fround(output.thresholds[i] ?? 0),
  }));
  return { ranked: ranked.sort((a, b) => b.probability - a.probability) };
}

function values(raw, { labels, output }, isFinal) {
  const restore = (x, i) => (isFinal ? x : x * (output.deviation[i] ?? 1) + (output.mean[i] ?? 0));
  return { values: raw.map((x, i) => ({ label: labels[i], value: restore(x, i) })) };
}

// The answer to one question of a model of several tasks, by the output of its name.
export function answerTask(results, task, isFinal) {
  return answer(Array.from(results[task.name].data), { labels: task.classes, output: task }, isFinal);
}

// `about` is model.json; `isFinal` says that the graph itself ends in probabilities, or in values in their unit.
export function answer(raw, about, isFinal) {
  if (!raw.every(Number.isFinite)) throw new Error("the model gave something that is no number");
  if (about.output.kind === "value") return values(raw, about, isFinal);
  if (about.output.kind === "multi") return severalLabels(raw, about, isFinal);
  return { ranked: rank(about.labels, isFinal ? raw : softmax(raw)) };
}
