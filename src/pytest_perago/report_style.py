"""The style sheet of the report."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --back: #ffffff; --text: #1b1f24; --weak: #59636e; --line: #d5dae0; --soft: #f4f6f8; --link: #0a58ca;
  --good: #116329; --bad: #b3122f; --warn: #8a5300; --bad-back: #fdeef0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14181d; --text: #e4e8ec; --weak: #9aa5b1; --line: #343c46; --soft: #1c2229; --link: #7db3ff;
    --good: #6fd08c; --bad: #ff8fa0; --warn: #f0b45a; --bad-back: #31191f;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.2rem 0 .3rem; font-size: 1rem; }
p { margin: .3rem 0 .6rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
small, footer, .weak { color: var(--weak); }
small { display: block; font-weight: normal; }
footer { margin-top: 2rem; font-size: .85rem; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
pre { margin: 0; overflow-x: auto; white-space: pre; }
.counts { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; margin: .4rem 0; padding: 0; list-style: none;
  font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 60%; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--weak); font-size: .85rem; white-space: nowrap; }
td { min-width: 4rem; }
.number { white-space: nowrap; }
td pre { max-width: 26rem; }
.passed, .compatible { color: var(--good); }
.failed, .error, .breaking { color: var(--bad); font-weight: 600; }
.failed a, .error a { color: inherit; }
.skipped, .notice { color: var(--warn); }
.none { color: var(--weak); }
details { margin: .6rem 0; border: 1px solid var(--line); border-left: 4px solid var(--bad); border-radius: 4px; }
summary { padding: .5rem .7rem; cursor: pointer; background: var(--bad-back); }
summary span { display: block; overflow-wrap: anywhere; }
details > pre, details > p { padding: .6rem .7rem; margin: 0; }
.command { user-select: all; background: var(--soft); padding: .15rem .3rem; border-radius: 3px; }
@media print { details { break-inside: avoid; } nav { display: none; } }
"""
