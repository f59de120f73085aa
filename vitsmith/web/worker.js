// Runs the model beside the page, so that the page stays alive meanwhile. Images are answered one after another.

import { openModel } from './model.js';

const tell = (kind, rest) => self.postMessage({ kind, ...rest });

const opening = openModel((bytes, total) => tell('loading', { bytes, total })).then(
  (model) => {
    tell('ready', { facts: model.facts });
    return model;
  },
  (error) => tell('failed', { message: String(error?.message ?? error) }),
);

let queue = opening;

self.onmessage = ({ data: { number, file } }) => {
  queue = queue.then(async () => {
    const model = await opening;
    if (!model) return;
    try {
      tell('answer', { number, ...(await model.answer(file)) });
    } catch (error) {
      tell('refused', { number, message: String(error?.message ?? error) });
    }
  });
};
