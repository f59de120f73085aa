// The bundle beside this page, opened with onnxruntime-web: an image file in, scores or an embedding out.

import * as ort from './ort/ort.wasm.min.mjs';
import { readPicture } from './decode.js';
import { checkGolden } from './golden.js';
import { normalize, preprocess, resizeImage } from './preprocess.js';

const MOST_THREADS = 4;

/** Reads everything, checks the golden answers, and gives a Model. `onBytes(read, total)` is told how loading goes. */
export async function openModel(onBytes = () => {}) {
  const [bundle, page] = await Promise.all([read('bundle.json').then(asJson), read('page.json').then(asJson)]);
  const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.wasm.wasmPaths = new URL('ort/', import.meta.url).href;
  ort.env.wasm.numThreads = threads;
  const program = await readWithProgress('model.onnx', page.bytes, onBytes);
  const session = await ort.InferenceSession.create(program, { executionProviders: ['wasm'] });
  const classes = page.words ? new Float32Array(await (await read('classes.bin')).arrayBuffer()) : null;
  const model = new Model(bundle, page, session, classes, threads);
  const golden = bundle.files['golden.safetensors'] ? await (await read('golden.safetensors')).arrayBuffer() : null;
  if (golden) await model.check(golden);
  return model;
}

class Model {
  constructor(bundle, page, session, classes, threads) {
    Object.assign(this, { bundle, page, session, classes });
    this.spec = { ...bundle.preprocessing, pillow: page.pillow };
    const { head, calibration, provenance } = bundle;
    this.facts = { ...page, threads, head, calibration, parent: provenance.parent, date: provenance.date };
  }

  async check(golden) {
    const prepare = (picture) => preprocess(picture, this.spec);
    const run = (picture) => this.run(this.tensorOf(picture));
    await checkGolden(golden, prepare, run, this.page.tolerance);
    this.facts.checked = true;
  }

  /** What the program takes: float32 (1, 3, height, width), or uint8 (1, height, width, 3) when it normalises itself. */
  tensorOf(picture) {
    const resized = resizeImage(picture, this.spec);
    const size = this.spec.size;
    if (this.bundle.programs[0].spec.pixels) return new ort.Tensor('uint8', resized.data, [1, ...size, 3]);
    return new ort.Tensor('float32', normalize(resized, this.spec), [1, 3, ...size]);
  }

  /** Logits or, of a model without classes, an embedding: Float32Array. */
  async run(tensor) {
    const [name] = this.session.inputNames;
    const outputs = await this.session.run({ [name]: tensor });
    return outputs[this.session.outputNames[0]].data;
  }

  /**
   * {outputs, top, size, times}: `top` holds the best {label, probability}, of a sigmoid also whether the class is
   * `present`, of a regression every {label, value}, and is null for a model without a head.
   */
  async answer(file, count = 5) {
    const times = [performance.now()];
    const picture = await readPicture(file);
    times.push(performance.now());
    const tensor = this.tensorOf(picture);
    times.push(performance.now());
    const outputs = await this.run(tensor);
    times.push(performance.now());
    if (!outputs.every(Number.isFinite)) throw new Error("The model's output for this image is not finite. Take another image, or a model exported in fp32.");
    const [decode, prepare, run] = [1, 2, 3].map((i) => times[i] - times[i - 1]);
    const size = [picture.width, picture.height];
    return { outputs, top: this.best(outputs, count), size, times: { decode, prepare, run } };
  }

  best(outputs, count) {
    if (!this.page.classes) return null;
    if (this.bundle.head === 'regression') return Array.from(outputs, (value, i) => ({ label: this.nameOf(i), value }));
    const { temperature = 1, thresholds = [] } = this.bundle.calibration ?? {};
    const logits = this.classes ? this.scores(outputs) : outputs.map((value) => value / temperature);
    const alone = this.bundle.head === 'sigmoid';
    const probabilities = alone ? logits.map(sigmoid) : softmax(logits);
    const order = Array.from(probabilities.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
    return order.slice(0, count).map((i) => {
      const answer = { label: this.nameOf(i), probability: probabilities[i] };
      return alone ? { ...answer, present: probabilities[i] >= (thresholds[i] ?? 0.5) } : answer;
    });
  }

  /** Of a LiT model: temperature times the cosine with each label's embedding, plus the bias. */
  scores(embedding) {
    const { temperature, bias } = this.bundle.similarity;
    return Float32Array.from({ length: this.page.classes }, (_, i) => {
      const row = this.classes.subarray(i * embedding.length, (i + 1) * embedding.length);
      return temperature * row.reduce((sum, value, at) => sum + value * embedding[at], 0) + (bias ?? 0);
    });
  }

  nameOf(index) {
    const names = this.page.words ?? this.page.names ?? this.bundle.labels?.names;
    return names ? names[index] : `${this.bundle.head === 'regression' ? 'value' : 'class'} ${index}`;
  }
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((one) => Math.exp(one - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((one) => one / sum);
}

async function read(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is not here (HTTP ${answer.status}). Copy the whole folder again.`);
  return answer;
}

function asJson(answer) {
  return answer.json();
}

/** The bytes of a file, told piece by piece. `total` is its size: a server that compresses does not say it. */
async function readWithProgress(name, total, onBytes) {
  const answer = await read(name);
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > total) throw new Error(`${name} is not the file this page was made with. Copy the folder again.`);
    bytes.set(value, at);
    at += value.length;
    onBytes(at, total);
  }
  if (at < total) throw new Error(`${name} came only in part (${at} of ${total} bytes). Load the page again.`);
  return bytes;
}
