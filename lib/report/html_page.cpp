#include "lib/report/html_page.h"

namespace qwb::report {
namespace {

// Wide tables scroll inside of their frames, the first column stays; pictures keep their size up to
// the page's width and take its text colour.
constexpr const char* kPageStyle = R"css(
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1b1b;--faint:#5c5f66;--rule:#d5d8dd;--band:#f4f6f8;--link:#0a58a8;--good:#00694d;--bad:#a83e00}
@media (prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#ececec;--faint:#a2a8b2;--rule:#3a3f47;--band:#1f2228;--link:#7db7f0;--good:#4fcea4;--bad:#ff9a5c}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,'DejaVu Sans',sans-serif}
main{max-width:1240px;margin:0 auto;padding:16px}
h1{font-size:1.5rem;margin:.2em 0 .6em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:1.8em 0 .5em;border-bottom:1px solid var(--rule);padding-bottom:.2em}
p,li{max-width:80ch;overflow-wrap:anywhere}
small,.faint,figcaption{color:var(--faint);font-size:.82rem}
.frame{overflow-x:auto;border:1px solid var(--rule);border-radius:6px;margin:.6em 0}
.frame:focus-visible{outline:2px solid var(--link)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;vertical-align:top;border-bottom:1px solid var(--rule);white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
thead th{background:var(--band);vertical-align:bottom}
th:first-child{text-align:left;position:sticky;left:0;background:var(--paper);min-width:6.5em;max-width:42vw;white-space:normal;overflow-wrap:break-word}
thead th:first-child{background:var(--band)}
td small{display:block}
td.none{color:var(--faint)}
.words td{white-space:normal;text-align:left;min-width:15em}
.words td.none{min-width:0}
.words ul{margin:0;padding-left:1.1em}
.words li{margin-bottom:.25em}
.good li::marker{content:'+ ';color:var(--good);font-weight:bold}
.bad li::marker{content:'\2212  ';color:var(--bad);font-weight:bold}
th button{all:unset;cursor:pointer;font:inherit}
th button:hover{text-decoration:underline}
th button:focus-visible{outline:2px solid var(--link)}
th[aria-sort=ascending] button::after{content:' \25B2'}
th[aria-sort=descending] button::after{content:' \25BC'}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:22px 28px}
figure{margin:0;min-width:0}
figure h3{font-size:1rem;margin:0 0 .3em;overflow-wrap:anywhere}
figure svg{display:block;width:100%;max-width:560px;height:auto;color:var(--ink)}
figcaption{max-width:560px;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--link)}
.narrow{display:none}
@media (max-width:700px){.narrow{display:inline}.words thead{display:none}.words,.words tbody,.words tr,.words th,.words td{display:block;max-width:none;border:0}.words tr{border-bottom:1px solid var(--rule)}}
@media print{.frame{overflow:visible}}
)css";

// Sorts a table by a click on a title; what was not measured stays last.
constexpr const char* kPageScript = R"js(
for(const table of document.querySelectorAll('table.sortable')){
  const body=table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head,column)=>{
    const button=document.createElement('button');
    button.type='button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click',()=>{
      const down=head.getAttribute('aria-sort')==='ascending';
      for(const other of table.tHead.rows[0].cells)other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort',down?'descending':'ascending');
      const key=row=>{const cell=row.cells[column];return column===0?cell.textContent:cell.dataset.value===undefined?NaN:Number(cell.dataset.value)};
      const rows=[...body.rows];
      rows.sort((a,b)=>{
        const x=key(a),y=key(b);
        if(column===0)return down?y.localeCompare(x):x.localeCompare(y);
        if(isNaN(x)||isNaN(y))return isNaN(x)-isNaN(y);
        return down?y-x:x-y;
      });
      body.append(...rows);
    });
  });
}
)js";

}  // namespace

std::string html_head(const std::string& title) {
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'; "
         "script-src 'unsafe-inline'; img-src data:\">\n<title>" +
         title + "</title>\n<style>" + kPageStyle + "</style>\n</head>\n<body>\n<main>\n";
}

std::string html_foot() {
  return std::string("</main>\n<script>") + kPageScript + "</script>\n</body>\n</html>\n";
}

}  // namespace qwb::report
