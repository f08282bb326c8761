//! The report as one HTML file that opens anywhere: no network, no other file, and everything readable without a script.
//!
//! Owns the page; refuses to measure and to judge. Invariants: every string of the report is escaped; no figure, however large, absent
//! or not a number, breaks the page or a drawing; the page refers to nothing outside itself, and its content policy forbids it to.
//!
//! ```text
//!  Report ─► summary  banner, headline, objectives, money
//!         ─► charts   ─► columns, scale, objective ─► plot   inline SVG
//!         ─► tables   trials, outcomes, commands, every second, what was run
//!            all through markup (escaping) and units (figures)
//! ```

use super::Report;

mod charts;
mod columns;
mod markup;
mod objective;
mod plot;
mod scale;
mod summary;
mod tables;
mod units;

use markup::{Escaped, Html};

const STYLE: &str = include_str!("html/style.css");
const HOVER: &str = include_str!("html/hover.js");

/// The report as an HTML document, UTF-8.
///
/// Its exact figures are in the JSON; here they are rounded for reading, with the exact value of the important ones in the `value`
/// attribute of a `<data>` element.
pub fn render(report: &Report) -> String {
    let mut html = Html::default();
    head(report, &mut html);
    summary::banner(report, &mut html);
    summary::headline(report, &mut html);
    html.raw("<div class=\"pair uneven\">\n");
    summary::objectives(report, &mut html);
    summary::money(report, &mut html);
    html.raw("</div>\n");
    tables::trials(report, &mut html);
    html.raw("<section>\n<h2>Charts</h2>\n");
    charts::percentiles(report).write(&mut html);
    charts::throughput(report).write(&mut html);
    charts::latency_over_time(report).write(&mut html);
    charts::durable_lag(report).write(&mut html);
    tables::every_second(report, &mut html);
    html.raw("</section>\n");
    tables::outcomes(report, &mut html);
    tables::commands(report, &mut html);
    tables::what_was_run(report, &mut html);
    foot(report, &mut html);
    html.into_string()
}

fn head(report: &Report, html: &mut Html) {
    let (_, verdict) = summary::verdict(report.verdict);
    html.put(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{verdict}: {}/s, p99.9 {} – load report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        units::rate(report.achieved_per_s),
        units::latency(report.latency_ns.p99_9)
    ));
    html.put(format_args!(
        "<header>\n<h1>Load report</h1>\n<p>{} · <time>{}</time> · seed {}</p>\n</header>\n",
        Escaped(&report.tool),
        Escaped(&report.started),
        report.seed
    ));
}

fn foot(report: &Report, html: &mut Html) {
    html.put(format_args!(
        "<footer>Written by {}. The exact figures are in the JSON report of the same run.</footer>\n</main>\n<script>\n{HOVER}</script>\n</body>\n</html>\n",
        Escaped(&report.tool)
    ));
}
