"""The page's style sheet: one column, system type, light and dark by the reader's setting, and rules for print."""

STYLE_SHEET = """
:root {
  --ink: #1d2129; --faint: #5b6370; --line: #d9dde4; --ground: #ffffff; --shade: #f5f6f8; --paper: #f6f0e3;
  --paper-ink: #5a4a22; --link: #0b5cad; --warn: #fff4d6; --warn-line: #d89b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8ec; --faint: #a2a9b5; --line: #363c46; --ground: #14171c; --shade: #1d2128; --paper: #2c2719;
    --paper-ink: #e3d3a4; --link: #7db7ff; --warn: #33290f; --warn-line: #d89b00;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 1rem; padding-top: .5rem; border-top: 1px solid var(--line); }
a { color: var(--link); }
.kind { margin: 0 0 .25rem; color: var(--faint); font-size: .9rem; }
.faint { color: var(--faint); font-size: .875rem; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem 1.5rem;
  margin: 0 0 1.25rem;
}
.facts dt { color: var(--faint); font-size: .8rem; }
.facts dd { margin: 0; }
.warning {
  background: var(--warn); border-left: 4px solid var(--warn-line); padding: .75rem 1rem; margin: 0 0 1rem;
  border-radius: 0 4px 4px 0; overflow-wrap: anywhere;
}
.warning ul { margin: .4rem 0 0; padding-left: 1.2rem; }
#short > ul > li { margin-bottom: .6rem; }
#short { font-variant-numeric: tabular-nums; }
nav ul { list-style: none; padding: 0; margin: 0; columns: 2 22rem; }
nav li { break-inside: avoid; margin: 0 0 .3rem; }
nav li a { text-decoration: none; }
nav li a:hover { text-decoration: underline; }
figure { margin: 0 0 2.25rem; }
figcaption { font-size: .9rem; color: var(--ink); max-width: 52rem; margin: .6rem 0; }
.links { white-space: nowrap; font-size: .8rem; }
.links a { margin-right: .5rem; }
.note, .omitted { font-size: .85rem; color: var(--faint); margin: .5rem 0 0; max-width: 52rem; }
.omitted { border: 1px dashed var(--line); padding: .75rem 1rem; border-radius: 4px; }
.scroll { overflow-x: auto; }
.plate { background: #ffffff; border-radius: 4px; }
.plate img { display: block; width: 100%; min-width: 34rem; height: auto; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; width: 100%; }
thead { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody { border-bottom: 2px solid var(--ink); }
th, td { padding: .32rem .6rem; text-align: left; vertical-align: top; }
th { font-weight: 600; }
tbody th { font-weight: 400; white-space: nowrap; }
th[scope=colgroup] { text-align: center; font-weight: 600; }
th[scope=colgroup]:not(:empty) { border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--shade); }
tbody tr.block > * { border-top: 1px solid var(--line); }
th.paper, td.paper { background: var(--paper); color: var(--paper-ink); }
thead th.paper { font-style: italic; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  tbody th { white-space: normal; }
  table { min-width: 38rem; }
  .facts { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
}
@media print {
  :root {
    --ink: #000; --faint: #444; --line: #bbb; --ground: #fff; --shade: #f5f6f8; --paper: #f6f0e3; --paper-ink: #3c3217;
    --link: #000; --warn: #fff4d6;
  }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav, .links { display: none; }
  .scroll { overflow: visible; }
  .plate img { min-width: 0; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .3rem; }
  td.number { white-space: normal; }
  figure { break-inside: avoid; }
  figure.table:has(tr:nth-child(25)) { break-inside: auto; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
}
"""
