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

// Pillow's Image.resize(size, filter, box) of an RGB image {data, width, height}.
export function resize(image, width, height, filter, box = [0, 0, image.width, image.height]) {
  const whole = box[0] === 0 && box[1] === 0 && box[2] === image.width && box[3] === image.height;
  if (whole && width === image.width && height === image.height) return image;
  if (filter === "nearest") return nearest(image, width, height, box);
  let { data } = image;
  if (width !== image.width || box[0] !== 0 || box[2] !== image.width) {
    const plan = coefficients(image.width, box[0], box[2], width, FILTERS[filter]);
    const out = new Uint8Array(width * image.height * 3);
    pass(data, out, plan, image.height, 3, image.width * 3, 3, width * 3);
    data = out;
  }
  if (height !== image.height || box[1] !== 0 || box[3] !== image.height) {
    const plan = coefficients(image.height, box[1], box[3], height, FILTERS[filter]);
    const out = new Uint8Array(width * height * 3);
    pass(data, out, plan, width, width * 3, 3, width * 3, 3);
    data = out;
  }
  return { data, width, height };
}

// Python's round: halves go to the even neighbour.
function round(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function crop(image, left, top, size) {
  const out = new Uint8Array(size * size * 3);
  for (let row = 0; row < size; row += 1) {
    const from = ((top + row) * image.width + left) * 3;
    out.set(image.data.subarray(from, from + size * 3), row * size * 3);
  }
  return { data: out, width: size, height: size };
}

// Resize the shorter side and crop the centre; `about` is the preprocessing that model.json holds.
export function resizeCrop(image, about) {
  const { size, interpolation } = about;
  const short = Math.floor(size / about.crop_pct);
  const wide = image.width > image.height;
  const width = wide ? Math.trunc((short * image.width) / image.height) : short;
  const height = wide ? short : Math.trunc((short * image.height) / image.width);
  const left = round((width - size) / 2);
  const top = round((height - size) / 2);
  if (width * height > 64000000) {
    const across = image.width / width;
    const down = image.height / height;
    return resize(image, size, size, interpolation,
      [left * across, top * down, (left + size) * across, (top + size) * down]);
  }
  const resized = resize(image, width, height, interpolation);
  return width === size && height === size ? resized : crop(resized, left, top, size);
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
