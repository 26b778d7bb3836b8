"""What does the trace page wear, and how does it hand a trace to Perfetto? Style and script, as text."""

LIGHT = """
--c1:#8250df;--c2:#0969da;--c3:#1a7f37;--c4:#cf222e;--c5:#bf8700;--c6:#bc4c00;--c7:#6e7781;--c8:#0e7490;--c9:#a40e6c;
--idle:#8c959f;--prefill:#8250df;--mixed:#bc4c00;--decode:#0969da"""
DARK = """
--c1:#a371f7;--c2:#4493f8;--c3:#3fb950;--c4:#f85149;--c5:#d29922;--c6:#f0883e;--c7:#8b949e;--c8:#39c5cf;
--c9:#db61a2;--idle:#6e7681;--prefill:#a371f7;--mixed:#f0883e;--decode:#4493f8"""
"""Colours of kinds of work, as CSS variables."""

DRAWN = """
.legend{display:flex;flex-wrap:wrap;gap:6px 16px;font-size:13px}
.key::before{content:"";display:inline-block;width:10px;
height:10px;margin-right:5px;background:var(--k,var(--c7))}
.key.prefill,.step.prefill{--k:var(--prefill)}.key.mixed,.step.mixed{--k:var(--mixed)}
.key.decode,.step.decode{--k:var(--decode)}.key.attention{--k:var(--c1)}.key.mlp{--k:var(--c2)}
.step .whole{fill:var(--k,var(--c7));opacity:.35}.step .gpu{fill:var(--k,var(--c7))}
.step.slow .whole{stroke:var(--c4);stroke-width:2;vector-effect:non-scaling-stroke;opacity:.6}
.step:hover .whole{opacity:.9}.usual{stroke:var(--quiet);stroke-dasharray:4 4;vector-effect:non-scaling-stroke}
.bar{display:grid;grid-template-columns:minmax(120px,270px) 1fr minmax(120px,auto);gap:12px;align-items:center;
font-size:13px;margin:3px 0}.bar .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar .value{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.track{background:var(--panel);height:14px;border-radius:3px;overflow:hidden}.fill{display:block;height:100%;
background:var(--k,var(--idle))}.c1{--k:var(--c1)}.c2{--k:var(--c2)}.c3{--k:var(--c3)}.c4{--k:var(--c4)}
.c5{--k:var(--c5)}
.c6{--k:var(--c6)}.c7{--k:var(--c7)}.c8{--k:var(--c8)}.c9{--k:var(--c9)}
@media(max-width:600px){.bar{grid-template-columns:110px 1fr 118px;gap:8px;font-size:12px}}
"""
"""What `drawing.py` draws, dressed; wants the colours and --panel, --quiet."""

STYLE = f"""
:root{{color-scheme:light dark;
--bg:#fff;--fg:#1b1f24;--quiet:#57606a;--line:#d8dee4;--panel:#f6f8fa;--warn:#9a6700;
{LIGHT}}}
@media(prefers-color-scheme:dark){{
:root{{--bg:#0d1117;--fg:#e6edf3;--quiet:#9198a1;--line:#30363d;--panel:#161b22;
--warn:#d29922;{DARK}}}}}
*{{box-sizing:border-box}}body{{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}}
main{{max-width:1240px;margin:0 auto;padding:20px 16px 60px}}h1{{font-size:24px;margin:0}}
h2{{font-size:19px;margin:32px 0 8px}}
h3{{font-size:15px;margin:24px 0 8px}}p{{margin:6px 0;overflow-wrap:anywhere}}
.quiet,footer{{color:var(--quiet);font-size:13px}}
footer{{margin-top:40px}}a{{color:var(--c2)}}section.rank{{border-top:1px solid var(--line);margin-top:28px}}
.findings{{background:var(--panel);border:1px solid var(--line);border-radius:8px;
padding:2px 18px 12px;margin-top:18px}}
.findings h2{{margin-top:12px}}.findings ol{{margin:0;padding-left:22px}}.findings li
{{margin:5px 0;overflow-wrap:anywhere}}
.partial{{color:var(--warn);font-weight:600}}
.tiles{{display:flex;flex-wrap:wrap;gap:10px;margin:14px 0}}
.tiles div{{background:var(--panel);border:1px solid var(--line);
border-radius:8px;padding:8px 14px;min-width:130px}}.tiles dt{{font-size:12px;color:var(--quiet)}}.tiles dd{{margin:0;
font-size:18px;font-variant-numeric:tabular-nums}}
.scroll{{overflow-x:auto;margin:8px 0}}table{{border-collapse:collapse;width:100%;font-size:13px}}
th,td{{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}}
th{{color:var(--quiet);font-weight:500;white-space:nowrap}}.n{{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}}td:first-child{{min-width:90px;
overflow-wrap:anywhere}}td:first-child>span[title]{{display:block;min-width:170px}}
.picture{{overflow-x:auto}}svg{{display:block;width:100%;min-width:600px}}
.layer .mlp{{fill:var(--c2)}}.layer .attention{{fill:var(--c1)}}.layer.slow rect{{stroke:var(--c4);stroke-width:2;
vector-effect:non-scaling-stroke}}
{DRAWN}.grew{{color:var(--c4)}}.shrank{{color:var(--c3)}}
button{{font:inherit;font-size:13px;color:var(--fg);background:var(--panel);border:1px solid var(--line);
border-radius:6px;

padding:3px 10px;cursor:pointer}}button:hover{{border-color:var(--c2)}}
@media(max-width:600px){{main{{padding:14px 10px 40px}}
.tiles div{{flex:1 1 40%;min-width:0}}.tiles dd{{font-size:16px}}svg{{min-width:0}}.n{{white-space:nowrap}}}}
"""

SCRIPT = """
const UI = 'https://ui.perfetto.dev';
function hand(buffer, title) {
  const view = window.open(UI);
  if (!view) { alert('The browser blocked the new window.'); return; }
  const timer = setInterval(() => view.postMessage('PING', UI), 100);
  setTimeout(() => clearInterval(timer), 30000);
  window.addEventListener('message', function listen(event) {
    if (event.origin !== UI || event.data !== 'PONG') return;
    clearInterval(timer);
    window.removeEventListener('message', listen);
    view.postMessage({perfetto: {buffer, title}}, UI, [buffer]);
  });
}
function pick(title) {
  const input = document.createElement('input');
  input.type = 'file';
  input.onchange = async () => { if (input.files[0]) hand(await input.files[0].arrayBuffer(), title); };
  input.click();
}
for (const button of document.querySelectorAll('.perfetto')) {
  button.onclick = async () => {
    const path = button.dataset.trace, title = path.split('/').pop();
    if (location.protocol === 'file:') return pick(title);
    try {
      const answer = await fetch(path);
      if (!answer.ok) throw new Error(answer.status);
      hand(await answer.arrayBuffer(), title);
    } catch { pick(title); }
  };
}
"""
