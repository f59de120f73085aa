"""The look of a report: one column on a phone, two on a desk, dark where the reader's system is, and plain on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --soft: #59636e; --paper: #f6f8fa; --sheet: #ffffff; --line: #d1d9e0;
  --accent: #0072b2; --wrong: #b34700;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --sheet: #161b22; --line: #30363d;
    --accent: #56b4e9; --wrong: #ffb454;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 66rem;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  color: var(--ink); background: var(--paper);
}
h1 { margin: 0 0 .5rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 3rem 0 .25rem; font-size: 1.3rem; line-height: 1.3; }
p { margin: .25rem 0 1rem; max-width: 46rem; }
a { color: var(--accent); }
.summary { font-size: 1.1rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }

.headlines { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 9.5rem), 1fr)); }
.headlines { margin: 1.5rem 0 0; padding: 0; }
.headlines > div, figure, .sheet, pre { background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem; }
.headlines > div { display: flex; flex-direction: column; padding: .8rem 1rem; }
.headlines dt { order: 2; font-weight: 600; line-height: 1.3; }
.headlines dd { margin: 0; }
.headlines .value { font-size: 1.75rem; line-height: 1.25; font-weight: 650; color: var(--accent); }
.headlines .value { font-variant-numeric: tabular-nums; }
.headlines .soft { order: 3; line-height: 1.35; }

.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.figures { margin: 1rem 0; }
figure { margin: 0; padding: .75rem .75rem 1rem; }
figure > b { display: block; padding: 0 .25rem .25rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { padding: .25rem .25rem 0; }

.sheet { margin: 1rem 0; padding: .25rem 1rem; overflow-x: auto; }
.table { width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: .5rem 0; text-align: left; }
th, td { padding: .35rem 0 .35rem 2.5rem; text-align: right; border-top: 1px solid var(--line); }
td { white-space: nowrap; }
th:first-child { padding-left: 0; text-align: left; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }

.cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(8.25rem, 1fr)); }
.cards { margin: 1rem 0; padding: 0; list-style: none; }
.cards li { padding: .6rem; background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem; }
.cards li { text-align: center; line-height: 1.35; overflow-wrap: anywhere; }
.cards li.wrong { border: 3px dashed var(--wrong); padding: calc(.6rem - 2px); }
.cards img { display: block; width: 6rem; height: 6rem; margin: 0 auto .5rem; object-fit: contain; }
.cards img { image-rendering: pixelated; border-radius: .25rem; }
.cards .answer { font-weight: 650; }
.wrong .mark { color: var(--wrong); }
.cards .source { display: block; font-size: .8rem; color: var(--soft); }

.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; padding: .75rem 1rem; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: .25rem 0 1rem; padding: .7rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .92rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; user-select: all; }

@media (max-width: 34rem) {
  body { padding-top: 1.25rem; }
  .headlines { grid-template-columns: 1fr 1fr; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .6rem; }
  table { font-size: .875rem; }
  th, td { padding-left: .6rem; }
  .cards { grid-template-columns: repeat(auto-fill, minmax(6.75rem, 1fr)); }
  .cards img { width: 4.5rem; height: 4.5rem; }
}
@media print {
  :root { --paper: #ffffff; --line: #b0b8c0; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  figure, .headlines, .cards li, tr, pre { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
}
"""
