// Prints the ids that the page gives for texts: what effxfer compares with its own before it ships the page.
import { readFileSync } from "node:fs";
import { makeEncoder } from "./tokens.js";

const load = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url)));
const encode = makeEncoder(load("tokenizer.json"), load("tokens.json"));
// Python counts characters, JavaScript halves of those beyond 16 bits.
const inCharacters = (text, places) => places.map((place) => place && place.map((end) => [...text.slice(0, end)].length));
const rows = load("texts.json").map((texts) => {
  try {
    const { ids, text, words, places } = encode(texts);
    return { ids, places: words || places ? inCharacters(text, words ?? places) : null };
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(rows));
