// Texts as the model's input: typed, and turned into ids of tokens.
import { makeEncoder } from "./tokens.js";

export { answer } from "./positions.js";

const PAUSE = 300; // ms after the last letter: somebody who types fast is not interrupted
const field = (id) => document.getElementById(id);
const fields = () => [...document.querySelectorAll("textarea")];
let encode;

export const invitation = "Write a text.";

// Call `changed` whenever there is another text.
export async function listen(changed, about, place) {
  const response = await fetch(`${place}tokenizer.json`);
  if (!response.ok) throw new Error(`tokenizer.json: ${response.status}`);
  encode = makeEncoder(await response.json(), about.tokens);
  let timer;
  for (const area of fields()) {
    area.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(changed, PAUSE);
    });
  }
  field("text").focus();
}

// The text as a tensor, and what there is to say about it; nothing before something is written.
export async function read(about, model, ort) {
  const texts = fields().map((area) => area.value);
  if (texts.every((text) => text === "")) return null;
  const reading = encode(texts);
  const { ids, cut } = reading;
  const tensor = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
  return { tensor, note: `${ids.length} tokens${cut ? ", the end was cut off" : ""}`, reading };
}
