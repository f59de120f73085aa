// A file to upright RGB pixels, as vitsmith/data/images/read.py reads them: colour profiles ignored, EXIF orientation applied,
// transparency laid over white. What the browser cannot decode is told in words.

const PIXELS_AT_ONCE = 2 ** 22; // a canvas of some phones holds only 2 ** 24

/** {height, width, data: Uint8Array of RGB}. Throws Error with a sentence for the reader. */
export async function readPicture(file) {
  if (!file.size) throw new Error(`${nameOf(file)} is empty (0 bytes).`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: 'from-image',
      premultiplyAlpha: 'none',
      colorSpaceConversion: 'none',
    });
  } catch {
    throw new Error(`${nameOf(file)} could not be read: it is damaged, or not an image this browser knows. Try JPEG or PNG.`);
  }
  try {
    return pixelsOf(bitmap);
  } finally {
    bitmap.close();
  }
}

function pixelsOf(bitmap) {
  const { height, width } = bitmap;
  const data = new Uint8Array(3 * height * width);
  const rows = Math.min(height, Math.max(1, Math.floor(PIXELS_AT_ONCE / width)));
  const pen = new OffscreenCanvas(width, rows).getContext('2d', { willReadFrequently: true });
  for (let top = 0; top < height; top += rows) {
    const strip = Math.min(rows, height - top);
    pen.fillStyle = 'white';
    pen.fillRect(0, 0, width, strip);
    pen.drawImage(bitmap, 0, top, width, strip, 0, 0, width, strip);
    const { data: colours } = pen.getImageData(0, 0, width, strip);
    for (let from = 0, to = 3 * top * width; from < colours.length; from += 4, to += 3) {
      data[to] = colours[from];
      data[to + 1] = colours[from + 1];
      data[to + 2] = colours[from + 2];
    }
  }
  return { height, width, data };
}

function nameOf(file) {
  return file.name || 'The image';
}
