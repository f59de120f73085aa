// Golden examples: images with the tensors and outputs that the model gave where it was exported (safetensors).

const TYPES = { F32: Float32Array, U8: Uint8Array, I32: Int32Array };
const TENSOR_TOLERANCE = 1e-4; // as in vitsmith/weights/bundle/golden.py

/** The arrays of a safetensors file by name, each with its shape: {name: {shape, data}}. */
export function readArrays(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
      const bytes = buffer.slice(8 + length + from, 8 + length + to); // a copy: typed arrays want their alignment
      return [name, { shape, data: new TYPES[dtype](bytes) }];
    }),
  );
}

/** Throws Error when the first golden image is preprocessed differently here, or the model answers differently. */
export async function checkGolden(buffer, preprocess, run, tolerance) {
  const arrays = readArrays(buffer);
  const image = arrays['image.0'];
  const picture = { height: image.shape[0], width: image.shape[1], data: image.data };
  const expected = arrays.tensors.data.subarray(0, arrays.tensors.data.length / arrays.tensors.shape[0]);
  const moved = largestDifference(preprocess(picture), expected);
  if (!(moved <= TENSOR_TOLERANCE)) {
    throw new Error(`This browser prepares images differently (by ${moved.toPrecision(2)}): its answers would be wrong.`);
  }
  const outputs = arrays.outputs.data.subarray(0, arrays.outputs.data.length / arrays.outputs.shape[0]);
  const difference = largestDifference(await run(picture), outputs) / outputs.reduce((most, one) => Math.max(most, Math.abs(one)), 1e-12);
  if (!(difference <= tolerance)) {
    throw new Error(
      `The model gives other answers in this browser than where it was exported (difference ${difference.toPrecision(2)}, ` +
        `allowed ${tolerance}). Try another browser.`,
    );
  }
  return difference;
}

/** NaN when any value is NaN or the lengths differ. */
function largestDifference(found, expected) {
  if (found.length !== expected.length) return NaN;
  let most = 0;
  for (let i = 0; i < found.length; i++) {
    const difference = Math.abs(found[i] - expected[i]);
    if (!(difference <= most)) most = difference;
    if (Number.isNaN(most)) return NaN;
  }
  return most;
}
