"""The style sheet of a report: for screens of any width, for paper, and for those who enlarge what they read."""

SHEET = """
:root{color-scheme:light;--ink:#1d2b3a;--quiet:#52606d;--line:#d5dde4;--soft:#f4f7f9;--blue:#005a8c;--red:#a33c00}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif;overflow-wrap:break-word}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 .5rem;letter-spacing:-.01em}
h2{font-size:1.35rem;line-height:1.25;margin:2.75rem 0 .75rem;padding-top:.75rem;border-top:2px solid var(--ink)}
h3{font-size:1.05rem;margin:1.75rem 0 .5rem}
p,ul,ol,dl{margin:.5rem 0 .9rem}
a{color:var(--blue)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--blue);outline-offset:2px}
code{font:.875em/1.4 ui-monospace,"SF Mono","DejaVu Sans Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere}
.kind{display:inline-block;font-size:.8rem;font-weight:600;letter-spacing:.04em;text-transform:uppercase;color:var(--blue)}
.quiet,figcaption,caption{color:var(--quiet)}
.small{font-size:.88rem}
.purpose{font-size:1.05rem;max-width:46rem}
.skip{position:absolute;left:-999rem}.skip:focus{left:1rem;top:.5rem;background:#fff;padding:.5rem}
#warnings{margin-top:1.5rem}
#warnings h2{border:0;margin:0 0 .5rem;padding:0}
.findings{list-style:none;padding:0;margin:0;display:grid;gap:.6rem}
.findings li{overflow-wrap:anywhere;min-width:0}
.findings li{border:1px solid var(--line);border-left:6px solid var(--blue);border-radius:6px;padding:.65rem .9rem;
background:var(--soft)}
.findings li[data-level=warning]{border-left-color:var(--red);background:#fdf3ec}
.findings .level{font-size:.75rem;font-weight:700;letter-spacing:.05em;text-transform:uppercase;color:var(--blue)}
.findings li[data-level=warning] .level{color:var(--red)}
.findings p{margin:.15rem 0 0}
.good{border:1px solid var(--line);border-left:6px solid #007a5a;border-radius:6px;padding:.65rem .9rem;
background:#eef7f3}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0}
.cards>div{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.cards dt{font-size:.85rem;color:var(--quiet)}
.cards dd{margin:0;font-size:1.5rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.cards dd small{display:block;font-size:.85rem;font-weight:400;color:var(--quiet)}
nav ol{columns:2;column-gap:2rem;padding-left:1.4rem;margin:.25rem 0}
nav{margin-top:1rem}
nav h2{font-size:1rem;border:0;margin:0;padding:0}
figure{margin:1rem 0 1.5rem}
figcaption{font-size:.9rem;margin-top:.35rem}
.scroll{overflow-x:auto;max-width:100%}
.plot{display:block;width:100%;height:auto;min-width:36rem;font-family:inherit}
.narrow{max-width:38rem;min-width:20rem}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:.9rem;padding:.25rem 0 .5rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .7rem .4rem 0;border-bottom:1px solid var(--line)}
thead th{border-bottom:2px solid var(--ink);font-size:.85rem;vertical-align:bottom}
tbody th{font-weight:600;min-width:5.5rem}
td.n,th.n{text-align:right}
tr.all th,tr.all td{border-top:2px solid var(--ink);font-weight:650}
td small{display:block;color:var(--quiet);white-space:nowrap;font-weight:400}
details{margin:.75rem 0}
summary{cursor:pointer;font-weight:600;color:var(--blue)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.25rem}
.facts dt{color:var(--quiet)}
.facts dd{margin:0}
.state{font-weight:600}
footer{margin-top:3rem;padding-bottom:3rem;font-size:.9rem;color:var(--quiet)}
footer p{border-top:1px solid var(--line);padding-top:.75rem}
@media (max-width:40rem){
body{font-size:15px}
h1{font-size:1.5rem}
nav ol{columns:1}
caption{max-width:calc(100vw - 2.5rem)}
.scroll{background:linear-gradient(90deg,#fff 40%,#fff0) 0/2rem 100% no-repeat local,
linear-gradient(270deg,#fff 40%,#fff0) 100%/2rem 100% no-repeat local,
linear-gradient(90deg,#0004,#0000) 0/.7rem 100% no-repeat,linear-gradient(270deg,#0004,#0000) 100%/.7rem 100% no-repeat}
.facts{grid-template-columns:1fr}
.facts dd{margin-bottom:.4rem}
}
@media print{
@page{size:A4;margin:16mm 14mm}
html{font-size:9.5pt}
body{font-size:1rem;line-height:1.4}
main,header,footer{max-width:none;padding:0}
nav,.skip{display:none}
h2{margin-top:1.6rem;break-after:avoid}
h3,caption{break-after:avoid}
figure,.findings li,.cards>div,tr{break-inside:avoid}
thead{display:table-header-group}
.scroll{overflow:visible}
.plot{min-width:0}
.narrow{max-width:33rem}
table{font-size:.88rem}
.cards{grid-template-columns:repeat(auto-fit,minmax(9rem,1fr))}
details::details-content{content-visibility:visible;display:block}
summary{color:inherit}
a{color:inherit;text-decoration:none}
}
"""
"""CSS, of which no word comes from outside."""
