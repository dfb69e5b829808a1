// From a text to ids: what effxfer's runtime does in Python, with Tokenizers.js in place of the library tokenizers.
import { findWords, locate } from "./positions.js";
import { Tokenizer } from "./tokenizers/tokenizers.min.mjs";

// Ideographs beyond 16 bits, around which Tokenizers.js 0.2.0 puts no blanks.
const IDEOGRAPHS = /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

const parts = (one) => (!one ? [] : one.type === "Sequence" ? one.normalizers.flatMap(parts) : [one]);

// What Tokenizers.js does otherwise than the library, as a change of the text that comes first.
function corrections(normalizer) {
  const bert = parts(normalizer).filter((one) => one.type === "BertNormalizer");
  const lowercase = parts(normalizer).some((one) => one.type === "Lowercase") || bert.some((one) => one.lowercase);
  const spaced = bert.some((one) => one.handle_chinese_chars);
  return (text) => {
    const apart = spaced ? text.replace(IDEOGRAPHS, " $& ") : text;
    // At the end of a word JavaScript gives another small sigma, the library does not look at neighbours.
    return lowercase ? apart.replaceAll("\u03a3", "\u03c3") : apart;
  };
}

// How many tokens of one or two fields are used that share `room`: the longer one loses first, then both.
function cutLengths(lengths, room) {
  if (lengths.length === 1) return [room];
  let shorter = Math.min(...lengths);
  let longer = Math.max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = Math.floor(room / 2);
    longer = room - shorter;
  }
  return lengths[0] > lengths[1] ? [longer, shorter] : [shorter, longer];
}

// The first window of each field.
function limits(lengths, room, stride) {
  if (lengths.reduce((a, b) => a + b, 0) <= room) return lengths;
  if (!stride) return cutLengths(lengths, room);
  const first = lengths.slice(0, -1).map((length) => Math.min(length, Math.floor(room / 2)));
  const width = room - first.reduce((a, b) => a + b, 0);
  return [...first, Math.min(width, lengths.at(-1))];
}

// The ids of a field in a stretch that has words of the pattern around it; only a row that is too long needs them apart.
function splitStretch(ids, pieces, names, encode) {
  const place = names.findIndex((name) => name);
  const before = encode(pieces.slice(0, place).join(""));
  const behind = encode(pieces.slice(place + 1).join(""));
  const end = ids.length - behind.length;
  const isApart = before.every((id, i) => ids[i] === id) && behind.every((id, i) => ids[end + i] === id);
  if (names.filter((name) => name).length !== 1 || !isApart || end < before.length) {
    throw new Error("the text is too long for this page with these words around it");
  }
  return [["", before], [names[place], ids.slice(before.length, end)], ["", behind]];
}

// A function that maps the texts of the fields to { ids, cut }; where `about.places` says so, with the places of tokens
// in the last text, or with its words and the first token of each.
// `raw` is tokenizer.json, `about` the field `tokens` of model.json.
export function makeEncoder(raw, about) {
  const reserved = new Set(about.reserved);
  const correct = corrections(raw.normalizer);
  const tokenizer = new Tokenizer({
    normalizer: null,
    pre_tokenizer: null,
    ...raw,
    decoder: null,
    post_processor: null,
    // Without special tokens: what a text says never becomes one.
    added_tokens: (raw.added_tokens ?? []).filter((token) => !token.special),
  }, {});

  const encode = (text) => tokenizer.encode(correct(text), { add_special_tokens: false }).ids.map((id) => {
    const known = id === undefined || reserved.has(id) ? about.unknown : id;
    if (known === null) throw new Error("the text holds a special token, or a character without a token");
    return known;
  });

  const stretch = ({ pieces, names }, texts) => {
    const text = pieces.map((piece, i) => (names[i] ? texts[about.fields.indexOf(names[i])] : piece)).join("");
    return { ids: encode(text), pieces, names };
  };

  const arrange = (stretches, split) => stretches.flatMap(({ ids, pieces, names }, i) => [
    ...(pieces.length === 1 ? [[names[0], ids]] : split ? splitStretch(ids, pieces, names, encode) : [["", ids]]),
    ["", about.special[i + 1]],
  ]);

  const isSpaced = Boolean(about.byte_level);
  const preTokenizer = raw.pre_tokenizer ?? {};
  const hasBlanks = [preTokenizer, ...(preTokenizer.pretokenizers ?? [])].some(({ type }) => type === "ByteLevel");

  // The words of a text one by one, as training reads lists of words.
  const readWords = (text) => {
    const [before, behind] = about.special;
    const spans = findWords(text);
    const ids = [...before];
    const firsts = spans.map(([start, end], i) => {
      const word = encode((isSpaced && i ? " " : "") + text.slice(start, end));
      if (!word.length && about.unknown === null) throw new Error("a word has no token");
      return ids.push(...(word.length ? word : [about.unknown])) - (word.length || 1);
    });
    const room = about.size - behind.length;
    const used = firsts.filter((place) => place < room).length;
    const row = [...ids.slice(0, room), ...behind];
    return { ids: row, cut: ids.length > room, text, words: spans.slice(0, used), firsts: firsts.slice(0, used) };
  };

  // The place of each token of the last text; none for tokens of others.
  const withPlaces = (row, texts) => {
    const last = about.fields.at(-1);
    const text = texts.at(-1);
    const located = locate(text, encode(text), encode, hasBlanks);
    return row.flatMap(([name, ids]) => ids.map((_, i) => (name === last ? located[i] : null)));
  };

  return (texts) => {
    for (const text of texts) {
      if (text.length > about.longest) throw new Error(`the text is longer than ${about.longest} characters`);
      if (/\p{Surrogate}/u.test(text)) throw new Error("the text holds half of a character");
    }
    if (about.places === "words") return readWords(texts[0]);
    const stretches = about.chunks.map((chunk) => stretch(chunk, texts));
    let row = [["", about.special[0]], ...arrange(stretches, false)];
    const count = row.reduce((sum, [, ids]) => sum + ids.length, 0);
    if (count > about.size) {
      row = [["", about.special[0]], ...arrange(stretches, true)];
      const room = about.size - row.reduce((sum, [name, ids]) => sum + (name ? 0 : ids.length), 0);
      const lengths = about.fields.map((name) => row.filter(([one]) => one === name).reduce((sum, [, ids]) => sum + ids.length, 0));
      const ends = limits(lengths, room, about.stride);
      row = row.map(([name, ids]) => [name, name ? ids.slice(0, ends[about.fields.indexOf(name)]) : ids]);
    }
    const ids = row.flatMap(([, some]) => some);
    if (!ids.length && about.unknown === null) throw new Error("the text has no token");
    const read = { ids: ids.length ? ids : [about.unknown], cut: count > about.size };
    return about.places === "tokens" ? { ...read, text: texts.at(-1), places: withPlaces(row, texts) } : read;
  };
}
