// What the reader sees: takes images by choice, drop and paste, and shows what the worker answers.

const $ = (id) => document.getElementById(id);

$('unserved').remove(); // it tells those in whose browser this line never runs

const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
let facts = null;
let newest = 0; // the image shown; answers to older ones come too late
let before = null; // the last embedding and its file's name, of a model without classes

worker.onmessage = ({ data }) => hear[data.kind](data);
worker.onerror = (event) => fail(`The model could not be started (${event.message || 'this browser is too old for it'}).`);

const hear = {
  loading({ bytes, total }) {
    const complete = bytes === total;
    $('progress').max = total;
    $('progress').value = bytes;
    if (complete) $('progress').removeAttribute('value');
    $('state-text').textContent = complete ? 'Starting and checking the model…' : 'Loading the model…';
    $('loaded').textContent = complete ? '' : `${megabytes(bytes)} of ${megabytes(total)} MB`;
  },
  ready({ facts: told }) {
    facts = told;
    showFacts();
    if (newest) wait('Looking at the image…');
    else invite();
    document.body.dataset.state = 'ready';
  },
  failed: ({ message }) => fail(message),
  answer(answer) {
    if (answer.number !== newest) return;
    calm();
    $('source').textContent = `${shown.name || 'Pasted image'}, ${answer.size.join(' × ')} pixels. Click or drop for another.`;
    if (answer.top) showTop(answer.top);
    else showSimilarity(answer.outputs);
    showTimes(answer.times);
    document.body.dataset.answered = answer.number;
  },
  refused({ number, message }) {
    if (number !== newest) return;
    invite();
    clearAnswers();
    showPreview(null);
    complain(message);
    document.body.dataset.answered = number;
  },
};

// --- images in -------------------------------------------------------------------------------------------------------

let shown = null;

function take(file) {
  if (!file || document.body.dataset.state === 'failed') return;
  shown = file;
  newest += 1;
  $('error').hidden = true;
  showPreview(file);
  clearAnswers();
  if (facts) wait('Looking at the image…');
  worker.postMessage({ number: newest, file });
}

function showPreview(file) {
  URL.revokeObjectURL($('preview').src);
  if (file) $('preview').src = URL.createObjectURL(file);
  $('preview').alt = file?.name || 'The pasted image';
  $('preview').hidden = !file;
  $('invitation').hidden = Boolean(file);
  $('drop').classList.toggle('full', Boolean(file));
  $('source').textContent = '';
}

$('file').addEventListener('change', (event) => {
  take(event.target.files[0]);
  event.target.value = ''; // so that the same file may be chosen again
});
document.addEventListener('paste', (event) => {
  const file = Array.from(event.clipboardData.files)[0];
  if (file) take(file);
  else complain('There is no image in the clipboard.');
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  $('drop').classList.add('over');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) $('drop').classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  $('drop').classList.remove('over');
  const [file] = event.dataTransfer.files;
  if (file) take(file);
  else complain('What was dropped is not a file. Save the image first, then drop it here.');
});

// --- answers out -----------------------------------------------------------------------------------------------------

function showTop(top) {
  const shown = ({ label, probability, value }) =>
    probability === undefined ? bar(label, `${+value.toPrecision(6)}`, 0) : bar(label, percent(probability), probability);
  $('answers').replaceChildren(...top.map((answer) => marked(shown(answer), answer.present)));
}

/** Pale where a class that is scored by itself is not there; `present` is undefined where classes exclude each other. */
function marked(row, present) {
  if (present === false) {
    row.className = 'absent';
    row.title = 'below its threshold: not there';
  }
  return row;
}

function showSimilarity(embedding) {
  const length = Math.hypot(...embedding);
  const unit = embedding.map((value) => value / length);
  const rows = [];
  if (before) {
    const cosine = unit.reduce((sum, value, i) => sum + value * before.unit[i], 0);
    rows.push(bar(`Cosine with ${before.name}`, cosine.toFixed(3), Math.max(cosine, 0)));
  }
  $('answers').replaceChildren(...rows);
  $('hint').textContent = before ? 'Give another image to compare it with this one.' : 'Give a second image to compare it with this one.';
  $('hint').hidden = false;
  before = { unit, name: shown.name || 'the image before' };
}

function bar(label, value, share) {
  const row = document.createElement('li');
  for (const [kind, text] of [['label', label], ['value', value], ['bar', '']]) {
    const part = document.createElement('span');
    part.className = kind;
    part.textContent = text;
    row.append(part);
  }
  row.lastChild.style.setProperty('--share', share);
  return row;
}

function showTimes(times) {
  for (const [name, milliseconds] of Object.entries(times)) $(`time-${name}`).textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  $('times').hidden = false;
}

function clearAnswers() {
  $('answers').replaceChildren();
  $('times').hidden = true;
}

function showFacts() {
  document.title = facts.title;
  $('title').textContent = facts.title;
  $('heading').textContent = facts.classes ? 'Answers' : 'Similarity';
  const threads = facts.threads === 1 ? '1 thread' : `${facts.threads} threads`;
  const line = [facts.precision, `${megabytes(facts.bytes)} MB`, `WebAssembly, ${threads}`, 'images never leave this device'];
  $('facts').textContent = line.join(' · ');
  const slower = globalThis.crossOriginIsolated ? '' : ' (for more, the server must send COOP and COEP headers: see the documentation)';
  const about = {
    Program: `${facts.precision}, ${megabytes(facts.bytes)} MB`,
    Input: facts.input,
    Classes: describeClasses(facts),
    Calibration: describeCalibration(facts.calibration),
    'Runs on': `onnxruntime-web ${facts.runtime}, WebAssembly with SIMD, ${threads}${slower}`,
    Checked: facts.checked ? 'a golden image gives the answers here that it gave where this was exported' : 'no golden image',
    'Made from': facts.parent,
    Date: facts.date,
  };
  const rows = Object.entries(about).filter(([, text]) => text);
  $('about-list').replaceChildren(...rows.map(([name, text]) => fact(name, text)));
  $('about').hidden = false;
}

function fact(name, text) {
  const row = document.createElement('div');
  row.append(Object.assign(document.createElement('dt'), { textContent: name }));
  row.append(Object.assign(document.createElement('dd'), { textContent: text }));
  return row;
}

// --- states ----------------------------------------------------------------------------------------------------------

function wait(text) {
  $('state-text').textContent = text;
  $('loaded').textContent = '';
  $('state').hidden = false;
  $('hint').hidden = true;
}

function invite() {
  calm();
  $('hint').textContent = facts.classes
    ? 'The best answers appear here.'
    : 'Give two images, one after the other, to see how alike they are.';
  $('hint').hidden = false;
}

function calm() {
  $('state').hidden = true;
}

function complain(message) {
  $('error').textContent = message;
  $('error').hidden = false;
}

function fail(message) {
  calm();
  complain(message);
  document.body.dataset.state = 'failed';
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}

function describeClasses({ classes, words, head }) {
  if (!classes) return 'none: an embedding';
  if (head === 'regression') return `none: ${classes} value${classes > 1 ? 's' : ''}`;
  return `${classes}${words ? ', given in words' : ''}${head === 'sigmoid' ? ', each scored by itself: pale below its threshold' : ''}`;
}

function describeCalibration(calibration) {
  if (!calibration) return '';
  const { temperature, thresholds, data } = calibration;
  const own = thresholds.length ? `, ${thresholds.length} thresholds` : '';
  return `logits divided by ${+temperature.toPrecision(4)}${own}${data ? ` (found on ${data})` : ''}`;
}

/** '97.2 %'; '>99.9 %' and '<0.1 %' where rounding would give 100.0 % or 0.0 %. */
function percent(probability) {
  if (probability > 0 && probability < 0.0005) return '<0.1 %';
  if (probability >= 0.9995 && probability < 1) return '>99.9 %';
  return `${(100 * probability).toFixed(1)} %`;
}
