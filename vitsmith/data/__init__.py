"""From files to images, texts, data sets and batches."""
