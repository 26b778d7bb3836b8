"""How does the HTML report look? One style sheet: light and dark, wide and narrow, screen and paper."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ground:#f4f5f7;--ink:#16181d;--faint:#5c6370;--rule:#d9dce2;
--accent:#1a5fb1;--code:#eceff3;--critical:#b3261e;--warning:#8a5a00;--info:#1a5fb1;--good:#1b7a3d}
@media screen and (prefers-color-scheme:dark){:root{--paper:#17181b;--ground:#0f1012;--ink:#e8e8ea;--faint:#a2a7b0;
--rule:#34373d;--accent:#7db3f5;--code:#26292e;--critical:#ff8a80;--warning:#f5bf5f;--info:#7db3f5;--good:#6fd08c}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;overflow-wrap:anywhere}
main{max-width:1120px;margin:0 auto;padding:16px}
header{border-left:6px solid var(--tone);background:var(--paper);border-radius:6px;padding:10px 16px;margin-bottom:10px}
header p{margin:.1em 0}
.critical{--tone:var(--critical)}.warning{--tone:var(--warning)}.info{--tone:var(--info)}.resolved{--tone:var(--good)}
.state{margin:0;color:var(--tone);font-weight:700;letter-spacing:.03em;font-size:.9rem}
h1{font-size:1.5rem;line-height:1.25;margin:.15em 0 0}
h2{font-size:1.15rem;margin:0 0 .5em}
h3{font-size:1rem;margin:1.1em 0 .3em}
section{background:var(--paper);border-radius:6px;padding:14px 18px;margin-bottom:12px}
section>:last-child{margin-bottom:0}
.answers{display:grid;grid-template-columns:repeat(10,minmax(0,1fr));gap:10px;margin-bottom:12px}
.answers section{margin:0;grid-column:span 5;padding:10px 16px}
.answers .broken{grid-column:span 6}.answers .since{grid-column:span 4}
.answers .unknown{grid-column:1/-1}
.again{display:none}
.answers .cause li,.answers .broken li,.answers .since li{font-size:.94rem;line-height:1.4}
.answers h2{font-size:.82rem;text-transform:uppercase;letter-spacing:.06em;color:var(--faint);margin-bottom:.25em}
.lead{font-size:1.04rem;line-height:1.4;margin:0 0 .35em}
p{margin:.2em 0 .6em}
ul,ol{margin:.2em 0 .6em;padding-left:1.3em}
li{margin:.2em 0}
code{background:var(--code);border-radius:3px;padding:.08em .3em;font:.88em/1.4 ui-monospace,SFMono-Regular,Menlo,
Consolas,"Liberation Mono",monospace}
.actions{list-style:none;padding:0;margin:0}
.actions li{border-top:1px solid var(--rule);padding:.6em 0}
.actions li:first-child{border-top:0;padding-top:.2em}
.actions code.option{display:block;padding:.5em .7em;margin:.35em 0;white-space:pre-wrap}
.tag{display:inline-block;border:1px solid currentColor;border-radius:999px;padding:0 .6em;font-size:.8rem;
font-weight:600;margin-right:.5em;color:var(--warning);white-space:nowrap}
.tag.safe{color:var(--good)}
.faint,.tradeoff,figcaption,footer{color:var(--faint)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:14px}
figure{margin:0}
figure svg{display:block;width:100%;height:auto}
figure.tall{grid-row:span 2}
figure.wide{grid-column:1/-1;overflow-x:auto}figure.wide svg{min-width:600px;max-width:860px}
table{border-collapse:collapse;width:100%;font-size:.94rem}
th,td{text-align:left;vertical-align:top;padding:.4em .7em .4em 0;border-top:1px solid var(--rule)}
th{color:var(--faint);font-weight:600;border-top:0}
th,td.time,td.num,td.word{white-space:nowrap;overflow-wrap:normal;font-variant-numeric:tabular-nums}
td:first-child{min-width:8em}
tr.repeat td{color:var(--faint)}
a{color:var(--accent)}
.moments{list-style:none;margin:0;padding:0 0 0 .4em;border-left:2px solid var(--rule)}
.moments li{position:relative;padding:.15em 0 .35em 1em;margin:0}
.moments li::before{content:"";position:absolute;left:calc(-.4em - 6px);top:.62em;width:10px;height:10px;
border-radius:50%;background:var(--faint)}
.moments .opened::before,.moments .onset::before,.moments .symptom::before{background:var(--critical)}
.moments .cause::before{background:var(--accent)}
.moments .capture::before{background:var(--warning)}
.moments .resolved::before{background:var(--good)}
.moments time{font-variant-numeric:tabular-nums;font-weight:600;margin-right:.5em}
details summary{cursor:pointer}details summary h2{display:inline;margin:0}
footer{font-size:.88rem;padding:4px 18px 24px}
@media (max-width:720px){main{padding:6px}.answers{display:block}.answers section{margin-bottom:6px;padding:7px 12px}
h1{font-size:1.15rem}header{padding:7px 12px;margin-bottom:6px}header .faint{font-size:.88rem;line-height:1.35}
section{padding:10px 12px}.lead{font-size:1rem;line-height:1.35}.answers li{font-size:.92rem;line-height:1.35}
.answers h2{font-size:.75rem;margin-bottom:.1em}.answers .more{display:none}.again{display:block}
.answers ul,.answers ol{padding-left:1.1em;margin:.1em 0}.answers .actions{padding:0}
table,tbody,tr,td{display:block}thead{display:none}
tr{border-top:1px solid var(--rule);padding:.5em 0}td{border:0;padding:.1em 0}
td:empty{display:none}td[data-label]::before{content:attr(data-label) ": ";color:var(--faint)}}
@media print{.answers .more{display:list-item}body{background:#fff;font-size:11pt}main{max-width:none;padding:0}
.charts{grid-template-columns:1fr 1fr}h2,h3{break-after:avoid}
section,header,figure,tr,li{break-inside:avoid}.long{break-inside:auto}a{color:inherit}}
"""
