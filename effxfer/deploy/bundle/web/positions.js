// Places in a text, and what a model says about them: entities of tagged words, and answers to questions.

const LETTERS = "\\p{L}\\p{N}_";
const MARKS = "\u0300-\u036f";
const BLANKS = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SHORT = `(?:s|re|ve|ll|d|m)(?![${LETTERS}])`;
// The words of effxfer's runtime: what Python calls a letter or a blank is written out.
const WORD = new RegExp(
  "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
  + "|(?:[\\p{L}\\p{Nl}\\p{No}]\\.){2,}"
  + `|[${LETTERS}${MARKS}]+(?:(?:[-.,&/@:]|['\u2019](?!${SHORT}))[${LETTERS}${MARKS}]+)*`
  + `|['\u2019]${SHORT}`
  + `|[^${LETTERS}${BLANKS}]`,
  "giu",
);

const LEADING = new RegExp(`^[${BLANKS}]*`, "u");
const UNBROKEN = /\S+/gu;
const STRETCH = new RegExp(`[${BLANKS}]*[^${BLANKS}]+|[${BLANKS}]+$`, "gu");
const PIECE = new RegExp(`^[${BLANKS}]*(?:[\\p{L}\\p{N}\\p{M}]+|[^${BLANKS}])|[\\p{L}\\p{N}\\p{M}]+|[^]`, "gu");

const spansOf = (text, pattern) => [...text.matchAll(pattern)].map((one) => [one.index, one.index + one[0].length]);

// The first character of each word, and the one behind its last.
export const findWords = (text) => spansOf(text, WORD);

const isEqual = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

// The place of each token of a text. Tokens within a word have the place of the whole word, since Tokenizers.js tells none.
// `encode` maps a part of the text to ids; `hasBlanks` says that blanks are parts of tokens, as in vocabularies of bytes.
export function locate(text, ids, encode, hasBlanks) {
  const part = ([start, end]) => encode(text.slice(start, end));
  const trim = ([start, end]) => [start + text.slice(start, end).match(LEADING)[0].length, end];
  const repeat = (place, count) => Array.from({ length: count }, () => trim(place));
  const places = [];
  const all = [];
  for (const [start, end] of spansOf(text, hasBlanks ? STRETCH : UNBROKEN)) {
    const whole = part([start, end]);
    const pieces = spansOf(text.slice(start, end), PIECE).map(([a, b]) => [start + a, start + b]);
    const each = pieces.map(part);
    all.push(...whole);
    places.push(...(isEqual(each.flat(), whole)
      ? pieces.flatMap((place, i) => repeat(place, each[i].length))
      : repeat([start, end], whole.length)));
  }
  if (!isEqual(all, ids)) throw new Error("this page cannot tell where the tokens of this text are");
  return places;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const raised = logits.map((x) => Math.exp(x - most));
  const total = raised.reduce((a, b) => a + b, 0);
  return raised.map((x) => x / total);
}

const split = (tag) => (/^[BIESLUM]-/u.test(tag) ? [tag[0], tag.slice(2)] : ["", ""]);

// Successive words of one entity: B, S and U begin one, as does another type; E, S, L and U end one.
function group(tags) {
  const entities = [];
  let open = null;
  tags.forEach((tag, i) => {
    const [mark, type] = split(tag);
    if (open && (!type || type !== open.type || "BSU".includes(mark))) open = null;
    if (!type) return;
    if (!open) entities.push(open = { type, first: i, last: i });
    open.last = i;
    if ("ESLU".includes(mark)) open = null;
  });
  return entities;
}

function tagWords(raw, { labels }, { text, words, firsts }) {
  const width = labels.length;
  const judged = firsts.map((place) => softmax(raw.slice(place * width, (place + 1) * width)));
  const probabilities = judged.map((row) => Math.max(...row));
  const tags = judged.map((row, i) => labels[row.indexOf(probabilities[i])]);
  const said = (label, first, last) => {
    const [start, end] = [words[first][0], words[last][1]];
    return { text: text.slice(start, end), label, start, end, probability: Math.min(...probabilities.slice(first, last + 1)) };
  };
  const marksEntities = labels.some((tag) => split(tag)[1]) && labels.every((tag) => tag === "O" || split(tag)[1]);
  if (!marksEntities) return { parts: tags.map((tag, i) => said(tag, i, i)) };
  return { parts: group(tags).map(({ type, first, last }) => said(type, first, last)) };
}

function findAnswer(raw, { output }, { text, places }) {
  const [start, end] = [0, 1].map((column) => places.map((place, i) => (place || i === 0 ? raw[2 * i + column] : -1e6)));
  let best = { score: -Infinity, first: 0, last: 0 };
  let highest = 0;
  for (let i = 1; i < places.length; i += 1) {
    if (i === 1 || start[i] > start[highest]) highest = i;
    const score = start[highest] + end[i];
    if (score > best.score) best = { score, first: highest, last: i };
  }
  const [begins, ends] = [softmax(start), softmax(end)];
  const margin = best.score - start[0] - end[0];
  if (!best.first || margin < (output.threshold[0] ?? -1e6)) return { parts: [], probability: begins[0] * ends[0] };
  const [from, to] = [places[best.first][0], places[best.last][1]];
  const probability = begins[best.first] * ends[best.last];
  return { parts: [{ text: text.slice(from, to), label: "", start: from, end: to, probability }] };
}

// What the outputs (L, C) say about the text of a reading, as `read` of texts.js gives it.
export function answer(raw, about, reading) {
  if (!raw.every(Number.isFinite)) throw new Error("the model gave something that is no number");
  return about.output.kind === "tags" ? tagWords(raw, about, reading) : findAnswer(raw, about, reading);
}
