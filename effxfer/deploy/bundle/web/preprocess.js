// From decoded pixels to the network's input: the arithmetic of Pillow's resize and of effxfer's runtime, bit for bit.

const BITS = 22;

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0)],
  hamming: [1, (x) => {
    const a = Math.abs(x);
    return a === 0 ? 1 : a >= 1 ? 0 : sinc(a) * (0.54 + 0.46 * Math.cos(a * Math.PI));
  }],
  bicubic: [2, (x) => {
    const a = Math.abs(x);
    if (a < 1) return (1.5 * a - 2.5) * a * a + 1;
    return a < 2 ? (((a - 5) * a + 8) * a - 4) * -0.5 : 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

// The pixels that an output pixel is made of, and their weights as integers of 22 bits behind the point.
function coefficients(size, start, end, out, [support, weight]) {
  const scale = Math.fround(Math.fround(end) - Math.fround(start)) / out;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const found = [];
  for (let i = 0; i < out; i += 1) {
    const center = Math.fround(start) + (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach + 0.5), size);
    const weights = [];
    let total = 0;
    for (let x = first; x < last; x += 1) {
      const w = weight((x - center + 0.5) * (1 / stretch));
      weights.push(w);
      total += w;
    }
    const whole = weights.map((w) => {
      const share = (total === 0 ? w : w / total) * 2 ** BITS;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    found.push({ first, weights: Int32Array.from(whole) });
  }
  return found;
}

// Resize along one axis of `lines` lines; `step` is the distance of neighbours, `stride` that of lines, in bytes.
function pass(pixels, out, plan, lines, step, stride, outStep, outStride) {
  for (let line = 0; line < lines; line += 1) {
    for (let i = 0; i < plan.length; i += 1) {
      const { first, weights } = plan[i];
      const from = line * stride + first * step;
      const to = line * outStride + i * outStep;
      for (let c = 0; c < 3; c += 1) {
        let sum = 1 << (BITS - 1);
        for (let k = 0; k < weights.length; k += 1) sum += pixels[from + k * step + c] * weights[k];
        out[to + c] = Math.min(Math.max(sum >> BITS, 0), 255);
      }
    }
  }
}

function nearest(image, width, height, [left, top, right, bottom]) {
  const out = new Uint8Array(width * height * 3);
  const across = (right - left) / width;
  const down = (bottom - top) / height;
  let y = top + down * 0.5;
  for (let row = 0; row < height; row += 1, y += down) {
    let x = left + across * 0.5;
    for (let column = 0; column < width; column += 1, x += across) {
      const from = (Math.trunc(y) * image.width + Math.trunc(x)) * 3;
      out.set(image.data.subarray(from, from + 3), (row * width + column) * 3);
    }
  }
  return { data: out, width, height };
}

function resizeRows(image, width, filter, [left, , right]) {
  if (width === image.width && left === 0 && right === width) return image;
  const plan = coefficients(image.width, left, right, width, FILTERS[filter]);
  const out = new Uint8Array(width * image.height * 3);
  pass(image.data, out, plan, image.height, 3, image.width * 3, 3, width * 3);
  return { data: out, width, height: image.height };
}

function resizeColumns(image, height, filter, [, top, , bottom]) {
  if (height === image.height && top === 0 && bottom === height) return image;
  const plan = coefficients(image.height, top, bottom, height, FILTERS[filter]);
  const out = new Uint8Array(image.width * height * 3);
  pass(image.data, out, plan, image.width, image.width * 3, 3, image.width * 3, 3);
  return { data: out, width: image.width, height };
}

// Pillow's Image.resize(size, filter, box) of an RGB image {data, width, height}. Values are rounded between the two
// axes, so that their order shows: with `tallFirst`, as newer Pillows do it, images that lose more than twice as many
// rows as columns are shortened first.
export function resize(image, width, height, filter, tallFirst, box = [0, 0, image.width, image.height]) {
  const whole = box[0] === 0 && box[1] === 0 && box[2] === image.width && box[3] === image.height;
  if (whole && width === image.width && height === image.height) return image;
  if (filter === "nearest") return nearest(image, width, height, box);
  const excess = Math.max(image.height - height, 0) - 2 * Math.max(image.width - width, 0);
  if (tallFirst && excess > 0) return resizeRows(resizeColumns(image, height, filter, box), width, filter, box);
  return resizeColumns(resizeRows(image, width, filter, box), height, filter, box);
}

// Python's round: halves go to the even neighbour.
function round(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

// What is kept of a resized side (from, to), and the padding before it.
function span(side, size) {
  if (side < size) return [0, side, Math.trunc((size - side) / 2)];
  const start = round((side - size) / 2);
  return [start, start + size, 0];
}

// The kept part of an image, on a square of the mean colour where it does not fill it.
function place(image, [left, right, across], [top, bottom, down], { size, mean }) {
  const out = new Uint8Array(size * size * 3);
  const colour = mean.map((value) => round(255 * value));
  for (let i = 0; i < out.length; i += 1) out[i] = colour[i % 3];
  for (let row = 0; row < bottom - top; row += 1) {
    const from = ((top + row) * image.width + left) * 3;
    out.set(image.data.subarray(from, from + (right - left) * 3), ((down + row) * size + across) * 3);
  }
  return { data: out, width: size, height: size };
}

// A whole number divided by another, rounded, halves to even.
function divide(product, divisor) {
  const rest = product % divisor;
  const quotient = (product - rest) / divisor;
  return quotient + (2 * rest > divisor || (2 * rest === divisor && quotient % 2 === 1) ? 1 : 0);
}

function resizedSides(image, about) {
  const side = Math.floor(about.size / about.crop_pct);
  if (about.crop === "squash") return [side, side];
  if (about.crop === "letterbox") {
    const longer = Math.max(image.width, image.height);
    return [image.width, image.height].map((one) => Math.max(1, divide(one * side, longer)));
  }
  if (image.width > image.height) return [Math.trunc((side * image.width) / image.height), side];
  return [side, Math.trunc((side * image.height) / image.width)];
}

// Resize, crop the centre and pad; `about` is the preprocessing that model.json holds, with its `tall_first`.
export function resizeCrop(image, about) {
  const { size, interpolation } = about;
  const [width, height] = resizedSides(image, about);
  const [columns, rows] = [span(width, size), span(height, size)];
  const [left, right] = columns;
  const [top, bottom] = rows;
  if (width * height > 64000000) {
    const across = image.width / width;
    const down = image.height / height;
    const part = resize(image, right - left, bottom - top, interpolation, about.tall_first,
      [left * across, top * down, right * across, bottom * down]);
    return place(part, [0, right - left, columns[2]], [0, bottom - top, rows[2]], about);
  }
  const resized = resize(image, width, height, interpolation, about.tall_first);
  return width === size && height === size ? resized : place(resized, columns, rows, about);
}

// Scale to [0, 1], subtract the mean, divide by the standard deviation; channels first.
export function normalize(image, about) {
  const area = image.width * image.height;
  const out = new Float32Array(3 * area);
  for (let c = 0; c < 3; c += 1) {
    const mean = Math.fround(about.mean[c]);
    const std = Math.fround(about.std[c]);
    for (let i = 0; i < area; i += 1) {
      out[c * area + i] = Math.fround(Math.fround(image.data[i * 3 + c] / 255) - mean) / std;
    }
  }
  return out;
}
