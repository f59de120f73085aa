// Pixels to a model's input, value for value as vitsmith/data/images/preprocess.py does it.
//
// A picture is {height, width, data}: RGB, row by row, 0..255. Arithmetic in float32 there is Math.fround here, step for
// step, because truncation to uint8 makes the last bit visible. A spec is the bundle's, and `pillow` the major version of
// the Pillow that the model was exported beside.

const f32 = Math.fround;

/** RGB pixels to Float32Array of shape (3, height, width): `(pixel / 255 - mean) / std`. */
export function preprocess(picture, spec) {
  return normalize(resizeImage(picture, spec), spec);
}

/** The picture at the model's size: Float32Array in 0..255 with quantize 'none', else Uint8Array. */
export function resizeImage(picture, spec) {
  return spec.antialias ? resizeWithFilter(picture, spec) : resizeTwoTaps(picture, spec);
}

export function normalize(picture, spec) {
  const { height, width, data } = picture;
  const area = height * width;
  const output = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const scale = f32(1 / (255 * spec.std[channel]));
    const shift = f32(spec.mean[channel] / spec.std[channel]);
    for (let i = 0; i < area; i++) output[channel * area + i] = f32(data[3 * i + channel] * scale) - shift;
  }
  return output;
}

function covered(spec) {
  return [Math.floor(spec.size[0] / spec.crop), Math.floor(spec.size[1] / spec.crop)];
}

/** Halves to even, as Python's round and numpy.rint. */
function roundEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

// --- tf.image.resize(method='bilinear') ------------------------------------------------------------------------------

function resizeTwoTaps(picture, spec) {
  const [height, width] = spec.size;
  let resized = spec.size;
  let start = [0, 0];
  if (spec.resize === 'shorter') {
    resized = coveringSize([picture.height, picture.width], covered(spec));
    start = [Math.floor((resized[0] - height) / 2), Math.floor((resized[1] - width) / 2)];
  }
  const down = taps(picture.height, resized[0], start[0], height);
  const across = taps(picture.width, resized[1], start[1], width);
  const { data } = picture;
  const output = spec.quantize === 'none' ? new Float32Array(height * width * 3) : new Uint8Array(height * width * 3);
  const keep = spec.quantize === 'round' ? roundEven : (value) => value; // a Uint8Array truncates by itself
  for (let y = 0; y < height; y++) {
    const top = down.lower[y] * picture.width;
    const bottom = down.upper[y] * picture.width;
    for (let x = 0; x < width; x++) {
      const left = across.lower[x];
      const right = across.upper[x];
      for (let channel = 0; channel < 3; channel++) {
        const above = lerp(data[3 * (top + left) + channel], data[3 * (top + right) + channel], across.weight[x]);
        const below = lerp(data[3 * (bottom + left) + channel], data[3 * (bottom + right) + channel], across.weight[x]);
        output[3 * (y * width + x) + channel] = keep(lerp(above, below, down.weight[y]));
      }
    }
  }
  return { height, width, data: output };
}

function coveringSize(source, wanted) {
  const ratio = Math.max(f32(wanted[0] / source[0]), f32(wanted[1] / source[1]));
  return [roundEven(f32(source[0] * ratio)), roundEven(f32(source[1] * ratio))];
}

function taps(length, resized, start, count) {
  const scale = f32(length / resized);
  const lower = new Int32Array(count);
  const upper = new Int32Array(count);
  const weight = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const centre = f32(f32((start + i + 0.5) * scale) - 0.5);
    lower[i] = Math.max(Math.floor(centre), 0);
    upper[i] = Math.min(Math.ceil(centre), length - 1);
    weight[i] = centre - Math.floor(centre);
  }
  return { lower, upper, weight };
}

function lerp(low, high, weight) {
  return f32(low + f32(f32(high - low) * weight));
}

// --- Pillow's Image.resize (src/libImaging/Resample.c), and its filters in floats -------------------------------------

const PRECISION_BITS = 32 - 8 - 2; // of the fixed-point weights

const FILTERS = {
  bilinear: { support: 1, at: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: { support: 2, at: bicubic },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function bicubic(x) {
  const a = -0.5;
  const from = Math.abs(x);
  if (from < 1) return ((a + 2) * from - (a + 3)) * from * from + 1;
  return from < 2 ? (((from - 5) * from + 8) * from - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Resizes, cuts out the centre and fills the rest: only what remains of each pass is computed. */
function resizeWithFilter(picture, spec) {
  const source = [picture.height, picture.width];
  const resized = resizedSize(source, spec);
  const [down, across] = [0, 1].map((axis) => span(source[axis], resized[axis], spec.size[axis], spec.corner));
  const part = spec.quantize === 'none' ? inFloat(picture, down, across, spec) : inBytes(picture, down, across, spec);
  return filled(part, down, across, spec);
}

function inBytes(picture, down, across, spec) {
  const [height, width] = spec.size;
  const source = [picture.height, picture.width];
  const resized = [down.resized, across.resized];
  const most = Math.max(2 ** 24, source[0] * source[1], 4 * height * width);
  if (Math.max(source[0], resized[0]) * resized[1] > most) {
    throw new Error(`The image, ${source[1]} × ${source[0]} pixels, is too long and narrow to be resized. Cut it first.`);
  }
  const filter = FILTERS[spec.interpolation];
  const columns = weights(source[1], resized[1], across.start, across.count, filter);
  const rows = weights(source[0], resized[0], down.start, down.count, filter);
  return verticalFirst(source, resized, spec.pillow)
    ? filterColumns(filterRows(picture, rows, BYTES), columns, BYTES)
    : filterRows(filterColumns(picture, columns, BYTES), rows, BYTES);
}

/** Each pass rounds to uint8, so their order shows. Pillow 13 begins with the rows of a picture that mostly loses rows. */
function verticalFirst(source, resized, pillow) {
  const [rows, columns] = [source[0] - resized[0], source[1] - resized[1]];
  return pillow >= 13 && rows > 0 && rows > 2 * columns;
}

/** The picture at the model's size, with `fill` around it where it is smaller. */
function filled(part, down, across, spec) {
  const [height, width] = spec.size;
  if (part.height === height && part.width === width) return part;
  const output = new part.data.constructor(3 * height * width);
  for (let i = 0; i < output.length; i++) output[i] = spec.fill?.[i % 3] ?? 0;
  for (let y = 0; y < part.height; y++) {
    const row = part.data.subarray(3 * y * part.width, 3 * (y + 1) * part.width);
    output.set(row, 3 * ((y + down.to) * width + across.to));
  }
  return { height, width, data: output };
}

// --- where the pixels of a resized picture lie (vitsmith/data/images/placement.py) ------------------------------------

function resizedSize(source, spec) {
  const wanted = covered(spec);
  if (spec.resize === 'squash') return wanted;
  return spec.resize === 'longer' ? longerSize(source, wanted) : shorterSize(source, wanted);
}

/** One axis: `length` pixels become `resized`, of which `count` from `start` on are used, at `to` onwards. */
function span(length, resized, side, corner) {
  if (resized < side) return { length, resized, start: 0, count: resized, to: Math.floor((side - resized) / 2) };
  const half = (resized - side) / 2;
  return { length, resized, start: corner === 'floor' ? Math.floor(half) : roundEven(half), count: side, to: 0 };
}

function shorterSize([height, width], [tall, wide]) {
  if (tall !== wide) {
    const ratio = Math.min(height / tall, width / wide);
    return [roundEven(height / ratio), roundEven(width / ratio)];
  }
  const longer = Math.trunc((tall * Math.max(height, width)) / Math.min(height, width));
  return height <= width ? [tall, longer] : [longer, tall];
}

function longerSize([height, width], [tall, wide]) {
  const ratio = Math.max(height / tall, width / wide);
  return [Math.max(roundEven(height / ratio), 1), Math.max(roundEven(width / ratio), 1)];
}

// --- the weights of a pass, and the passes ---------------------------------------------------------------------------

/** For `count` of the `resized` positions from `start` on: the first source pixel and the fixed-point weights. */
function weights(length, resized, start, count, filter) {
  if (length === resized) return Array.from({ length: count }, (_, i) => [start + i, [1 << PRECISION_BITS]]);
  const scale = length / resized;
  const widened = Math.max(scale, 1);
  const support = filter.support * widened;
  return Array.from({ length: count }, (_, i) => {
    const centre = (start + i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), length);
    const row = [];
    for (let x = first; x < end; x++) row.push(filter.at((x - centre + 0.5) * (1 / widened)));
    const sum = row.reduce((total, weight) => total + weight, 0);
    const fixed = row.map((weight) => (sum === 0 ? weight : weight / sum) * (1 << PRECISION_BITS));
    return [first, fixed.map((weight) => Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5))];
  });
}

/** The same in floats: what is float32 and what is float64 is as in torch (vitsmith/data/images/float_filter.py). */
function floatWeights({ length, resized, start, count }, filter) {
  const scale = f32(length / resized);
  const support = f32(filter.support * Math.max(scale, 1));
  const inverse = scale >= 1 ? f32(1 / scale) : 1;
  return Array.from({ length: count }, (_, i) => {
    const centre = f32((start + i + 0.5) * scale);
    const first = Math.max(Math.trunc(f32(centre - support) + 0.5), 0);
    const end = Math.min(Math.trunc(f32(centre + support) + 0.5), length);
    const row = [];
    for (let x = first; x < end; x++) row.push(filter.at(f32((f32(x - centre) + 0.5) * inverse)));
    const sum = row.reduce((total, weight) => total + weight, 0);
    return [first, row.map((weight) => weight / sum)];
  });
}

function inFloat(picture, down, across, spec) {
  const filter = FILTERS[spec.interpolation];
  const [rows, columns] = [floatWeights(down, filter), floatWeights(across, filter)];
  return down.length * across.count >= across.length * down.count
    ? filterColumns(filterRows(picture, rows, FLOATS), columns, FLOATS)
    : filterRows(filterColumns(picture, columns, FLOATS), rows, FLOATS);
}

/** What a pass begins its sums with, keeps of them, and stores. */
const BYTES = { start: 1 << (PRECISION_BITS - 1), keep: toByte, Store: Uint8Array };
const FLOATS = { start: 0, keep: (sum) => sum, Store: Float32Array };

function toByte(sum) {
  return Math.min(Math.max(sum >> PRECISION_BITS, 0), 255);
}

function filterColumns({ height, width, data }, across, { start, keep, Store }) {
  const output = new Store(height * across.length * 3);
  for (let y = 0; y < height; y++) {
    across.forEach(([first, row], x) => {
      let [red, green, blue] = [start, start, start];
      let at = 3 * (y * width + first);
      for (let i = 0; i < row.length; i++, at += 3) {
        red += data[at] * row[i];
        green += data[at + 1] * row[i];
        blue += data[at + 2] * row[i];
      }
      const to = 3 * (y * across.length + x);
      output[to] = keep(red);
      output[to + 1] = keep(green);
      output[to + 2] = keep(blue);
    });
  }
  return { height, width: across.length, data: output };
}

function filterRows({ width, data }, down, { start, keep, Store }) {
  const length = 3 * width;
  const output = new Store(down.length * length);
  const sums = new Float64Array(length);
  down.forEach(([first, row], y) => {
    sums.fill(start);
    for (let i = 0; i < row.length; i++) {
      const from = (first + i) * length;
      for (let x = 0; x < length; x++) sums[x] += data[from + x] * row[i];
    }
    for (let x = 0; x < length; x++) output[y * length + x] = keep(sums[x]);
  });
  return { height: down.length, width, data: output };
}
