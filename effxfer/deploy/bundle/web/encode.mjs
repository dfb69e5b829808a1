// Prints the ids that the page gives for texts: what effxfer compares with its own before it ships the page.
import { readFileSync } from "node:fs";
import { makeEncoder } from "./tokens.js";

const load = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url)));
const encode = makeEncoder(load("tokenizer.json"), load("tokens.json"));
const rows = load("texts.json").map((texts) => {
  try {
    return encode(texts).ids;
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(rows));
