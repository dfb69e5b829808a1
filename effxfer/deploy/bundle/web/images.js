// Images as the model's input: chosen or dropped, decoded by the browser.
import { normalize, resizeCrop } from "./preprocess.js";

const MAX_PIXELS = 64e6;
const field = (id) => document.getElementById(id);

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

export const invitation = "Choose an image, or drop one here.";

// Call `changed` whenever there is another image.
export async function listen(changed) {
  field("file").addEventListener("change", changed);
  document.body.addEventListener("dragover", (event) => event.preventDefault());
  document.body.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    field("file").files = event.dataTransfer.files;
    changed();
  });
}

// The image as a tensor, and what there is to say about it; nothing if none is chosen.
export async function read(about, model, ort) {
  const file = field("file").files[0];
  if (!file) return null;
  field("preview").src = URL.createObjectURL(file);
  const image = await decode(file);
  if (model.resizes) return { tensor: new ort.Tensor("uint8", image.data, [1, image.height, image.width, 3]), note: "" };
  const cut = resizeCrop(image, { ...about.preprocess, tall_first: about.tall_first });
  const tensor = new ort.Tensor("float32", normalize(cut, about.preprocess), [1, 3, cut.height, cut.width]);
  return { tensor, note: "" };
}
